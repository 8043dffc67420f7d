"""The sources: what turns files in a store into units."""

from __future__ import annotations

from pipeline.sources.base import BadMedium, Piece, Source, SourceOptions, Unit
from pipeline.sources.find import Found, find
from pipeline.sources.images import IMAGES
from pipeline.sources.text import JSONL, TEXT

__all__ = ["SOURCES", "BadMedium", "Found", "Piece", "Source", "SourceOptions", "Unit", "find", "source_for"]

SOURCES: dict[str, Source] = {source.name: source for source in (IMAGES, TEXT, JSONL)}


def source_for(name: str, options: SourceOptions | None = None) -> Source:
    """The source of that name, as `--input-format` gives it; ValueError names those there are."""
    if name not in SOURCES:
        raise ValueError(f"input format {name!r} is none of {', '.join(SOURCES)}")
    return SOURCES[name].configured(options or SourceOptions())

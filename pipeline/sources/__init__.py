"""The sources: what turns files in a store into units."""

from __future__ import annotations

from pipeline.sources.base import BadMedium, Piece, Source, Unit
from pipeline.sources.find import Found, find
from pipeline.sources.images import IMAGES

__all__ = ["SOURCES", "BadMedium", "Found", "Piece", "Source", "Unit", "find", "source_for"]

SOURCES: dict[str, Source] = {IMAGES.name: IMAGES}


def source_for(name: str) -> Source:
    """The source of that name, as `--input-format` gives it; ValueError names those there are."""
    if name not in SOURCES:
        raise ValueError(f"input format {name!r} is none of {', '.join(SOURCES)}")
    return SOURCES[name]

"""The sources: what turns files in a store into units."""

from __future__ import annotations

from pipeline.sources.auto import Auto
from pipeline.sources.base import BadMedium, ClipSpec, Piece, Source, SourceOptions, Unit
from pipeline.sources.csv_files import CSV
from pipeline.sources.dataset import DATASET
from pipeline.sources.find import Found, find
from pipeline.sources.images import IMAGES
from pipeline.sources.parquet import PARQUET
from pipeline.sources.text import JSONL, TEXT
from pipeline.sources.video import VIDEO
from pipeline.sources.webdataset import WEBDATASET

__all__ = [
    "SOURCES",
    "BadMedium",
    "ClipSpec",
    "Found",
    "Piece",
    "Source",
    "SourceOptions",
    "Unit",
    "find",
    "source_for",
]

SOURCES: dict[str, Source] = {
    source.name: source for source in (VIDEO, IMAGES, TEXT, JSONL, CSV, PARQUET, DATASET, WEBDATASET)
}


def source_for(name: str, options: SourceOptions | None = None) -> Source:
    """The source of that name, as `--input-format` gives it, or "auto" for all of them by extension.

    ValueError names those there are, or says what one cannot do.
    """
    options = options or SourceOptions()
    if name == "auto":
        return Auto.of(SOURCES.values(), options)
    if name not in SOURCES:
        raise ValueError(f"input_format {name!r} is none of {', '.join(['auto', *SOURCES])}")
    source = SOURCES[name]
    if options.medium not in source.media:
        can = [each.name for each in SOURCES.values() if options.medium in each.media]
        raise ValueError(f"input_format {name!r} holds no {options.medium}; these do: {', '.join(can)}")
    return source.configured(options)

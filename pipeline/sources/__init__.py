"""The sources: what turns files in a store into units."""

from __future__ import annotations

from pipeline.sources.auto_source import AutoSource
from pipeline.sources.csv_source import CSV
from pipeline.sources.discovery import Listing, discover
from pipeline.sources.image_source import IMAGES
from pipeline.sources.parquet_source import PARQUET
from pipeline.sources.saved_dataset_source import DATASET
from pipeline.sources.source import Piece, Source, SourceOptions, Unit
from pipeline.sources.text_source import JSONL, TEXT
from pipeline.sources.video_source import VIDEO
from pipeline.sources.webdataset_source import WEBDATASET

__all__ = [
    "SOURCES",
    "Listing",
    "Piece",
    "Source",
    "SourceOptions",
    "Unit",
    "discover",
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
        return AutoSource.of(SOURCES.values(), options)
    if name not in SOURCES:
        raise ValueError(f"input_format {name!r} is none of {', '.join(['auto', *SOURCES])}")
    source = SOURCES[name]
    if options.medium not in source.media:
        can = [each.name for each in SOURCES.values() if options.medium in each.media]
        raise ValueError(f"input_format {name!r} holds no {options.medium}; these do: {', '.join(can)}")
    return source.configured(options)

"""Input formats, which turn files in a store into units. A new one is a file here and a line in SOURCES.

*_source.py   one per format; source.py is what they have in common, auto_source.py reads a mixture of them
access.py     how a denied unit is told from lost access to all of INPUT
listing/      from INPUT to the files that are read: patterns, reasons to leave out, formats by content
records/      what is read of a record: its columns, and the medium in it
text/         compression, encodings, lines, CSV and JSON
tables/       Parquet and Arrow
archives/     tar: members, links, samples
images/       decoding to pixels
video/        containers, frames, clips and sound
"""

from pipeline.formatting import did_you_mean
from pipeline.sources.auto_source import AutoSource
from pipeline.sources.csv_source import CSV
from pipeline.sources.image_source import IMAGES
from pipeline.sources.listing.discovery import Listing, discover
from pipeline.sources.parquet_source import PARQUET
from pipeline.sources.saved_dataset_source import DATASET
from pipeline.sources.source import Piece, Source, SourceOptions, Unit
from pipeline.sources.text_source import JSONL, TEXT
from pipeline.sources.video_source import VIDEO
from pipeline.sources.webdataset_source import WEBDATASET

__all__ = ["SOURCES", "Listing", "Piece", "Source", "SourceOptions", "Unit", "discover", "source_for"]

SOURCES: dict[str, Source] = {
    source.name: source for source in (VIDEO, IMAGES, TEXT, JSONL, CSV, PARQUET, DATASET, WEBDATASET)
}


def source_for(name: str, options: SourceOptions | None = None) -> Source:
    """Return the source with this `--input-format` name; "auto" is all of them, by extension.

    Raise ValueError if there is none, or it does not support the medium or another option.
    """
    options = options or SourceOptions()
    if name == "auto":
        return AutoSource(SOURCES.values(), options)
    if name not in SOURCES:
        known = ["auto", *SOURCES]
        raise ValueError(f"input_format {name!r} must be one of {', '.join(known)}{did_you_mean(name, known)}")
    source = SOURCES[name]
    if options.medium not in source.media:
        supported = [each.name for each in SOURCES.values() if options.medium in each.media]
        raise ValueError(f"input_format {name!r} does not support {options.medium}; use one of: {', '.join(supported)}")
    return source.configured(options)

"""Output of an earlier run that kept its latents: each row is one unit, under its own id, to be decoded again."""

from dataclasses import replace

import pyarrow as pa

from pipeline.sources.parquet_source import PARQUET_READER
from pipeline.sources.record_source import RecordSource
from pipeline.sources.records.record_reader import RecordRequest
from pipeline.sources.source import VIDEO_TIMES, SourceOptions, missing_column
from pipeline.storage import AccessError

_INPUT_OPTIONS = ("column", "id_column", *VIDEO_TIMES, "clip_stride", "text_unit", "csv_quoting", "short_clip")


def latents_request(source: str, options: SourceOptions) -> RecordRequest:
    """Return the columns that the head needs. Raise ValueError for options about inputs, of which none is read."""
    for name in _INPUT_OPTIONS:
        if (value := getattr(options, name)) and value != getattr(SourceOptions, name):
            raise ValueError(f"{name} ({value!r}) is not supported for {source}: no input is read")
    # They name the input that was encoded, which is not read.
    identity = {name: name for name in ("id", "uri", "version")}
    # The task's own medium was read and encoded by the earlier run.
    options = replace(options, medium="latents")
    return RecordRequest(options=options, medium_columns=options.columns, identity=identity)


def check_latents(uri: str, schema: pa.Schema, request: RecordRequest) -> None:
    """Raise AccessError if a requested column is missing."""
    for name in request.columns:
        if name not in schema.names:
            missing = missing_column(uri, name, schema.names)
            raise AccessError(f"{missing}. Was the file written by this task with --latents?")


_READER = replace(PARQUET_READER, check=check_latents)
STORED_LATENTS = RecordSource(
    "stored latents", frozenset({".parquet"}), _READER, latents_request, media=frozenset({"latents"})
)

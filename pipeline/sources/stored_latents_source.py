"""Output of an earlier run that kept its latents: each row is one unit, under its own id, to be decoded again."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from pipeline.sources.parquet_source import PARQUET_READER
from pipeline.sources.record_reader import RecordRequest
from pipeline.sources.record_source import RecordSource
from pipeline.sources.source import SourceOptions
from pipeline.storage import AccessError

IDENTITY = ("id", "uri", "version")
"""Columns that replace those of the unit: they name the input that was encoded, which is not read."""

_DEFAULTS = {
    "column": None,
    "id_column": None,
    "fps": None,
    "clip_stride": None,
    "text_unit": "line",
    "short_clip": "pad",
}


def latents_request(source: str, options: SourceOptions) -> RecordRequest:
    """Return the columns that the head needs. Raise ValueError for options about inputs, of which none is read."""
    for name, default in _DEFAULTS.items():
        if (value := getattr(options, name)) and value != default:
            raise ValueError(f"{name} ({value!r}) is not supported for {source}: no input is read")
    identity = {name: name for name in IDENTITY}
    # The task's own medium was read and encoded by the earlier run.
    options = replace(options, medium="latents")
    return RecordRequest(options=options, medium_columns=options.columns, identity=identity)


def check_latents(uri: str, schema: pa.Schema, request: RecordRequest) -> None:
    """Raise AccessError if a requested column is missing."""
    for name in request.columns:
        if name not in schema.names:
            raise AccessError(
                f"{uri}: column {name!r} not found; available columns: {', '.join(schema.names)}. "
                "Was the file written by this task with --latents?"
            )


STORED_LATENTS = RecordSource(
    "stored latents",
    frozenset({".parquet"}),
    frozenset({"latents"}),
    replace(PARQUET_READER, check=check_latents),
    request_for=latents_request,
)

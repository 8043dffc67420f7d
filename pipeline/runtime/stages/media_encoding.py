"""Encode the media of rows as files. A medium that cannot be encoded, or whose encoder crashes, costs only its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.heads.head import ColumnType
from pipeline.runtime.stages.output_table import medium_array
from pipeline.sandbox import NotStarted, ResourceLimits, Sandbox, run_items
from pipeline.sinks.media import MEDIA_ENCODERS
from pipeline.sinks.schema import arrow_type

Encode: TypeAlias = Callable[[str, Sequence[np.ndarray]], list[bytes | Exception]]
"""Encodes media of a kind: for each of them the file, or why it cannot be encoded."""

MEDIUM_SECONDS = 300.0  # time limit per medium: the video of a clip takes tenths of a second
MAX_ATTEMPTS = 2  # per medium that crashes its encoder


def encode_media(
    table: pa.Table, columns: Mapping[str, ColumnType], encode: Encode
) -> tuple[pa.Table, dict[int, Exception]]:
    """Return the table with each medium as a file, a struct of bytes and path, and the errors by row.

    A row with an error stays in the table with null in that column, so that other rows keep their numbers.
    """
    failed: dict[int, Exception] = {}
    for at, name in enumerate(table.column_names):
        kind = columns.get(name)
        medium = kind[0] if isinstance(kind, list) else kind
        if isinstance(medium, str) and medium in MEDIA_ENCODERS:
            files = _files(table.column(name), medium, encode, failed)
            values = files if isinstance(kind, list) else [row and row[0] for row in files]
            table = table.set_column(at, name, pa.array(values, arrow_type(kind)))
    return table, failed


def encode_directly(kind: str, media: Sequence[np.ndarray]) -> list[bytes | Exception]:
    """Encode media in this process; an error of the encoder is the result of its medium.

    Raises MemoryError, because another attempt may succeed.
    """
    results: list[bytes | Exception] = []
    for medium in media:
        try:
            results.append(MEDIA_ENCODERS[kind](medium))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit is quarantined for it
            results.append(error)
    return results


def encode_in_sandbox(kind: str, media: Sequence[np.ndarray]) -> list[bytes | Exception]:
    """Encode media in a sandbox; an error of the encoder, or its second crash, is the result of its medium.

    Raises NotStarted if there is no sandbox.
    """
    results: list[bytes | Exception] = []
    with Sandbox(ResourceLimits(seconds=MEDIUM_SECONDS)) as sandbox:
        while (begin := len(results)) < len(media):

            def encode(first: int, begin: int = begin) -> Iterator[bytes]:
                return sandbox.run(_encode, kind, media[begin + first :])

            try:
                for file in run_items(encode, attempts=MAX_ATTEMPTS):
                    results.append(file)  # noqa: PERF402 - files before an error are kept
            except NotStarted:
                raise
            except Exception as error:  # noqa: BLE001 - of the encoder, which raised it or crashed
                results.append(error)
    return results


def _encode(kind: str, media: Sequence[np.ndarray]) -> Iterator[bytes]:
    """In the sandbox: yield the file of each medium."""
    return (MEDIA_ENCODERS[kind](medium) for medium in media)


def _files(
    column: pa.ChunkedArray, kind: str, encode: Encode, failed: dict[int, Exception]
) -> list[list[dict[str, Any]] | None]:
    """Return the files of each row's media, or None for a row with an error, which is added to `failed`."""
    rows = [list(value.values) if pa.types.is_large_list(column.type) else [value] for value in column]
    results = iter(encode(kind, [medium_array(medium, kind) for media in rows for medium in media]))
    files: list[list[dict[str, Any]] | None] = []
    for row, media in enumerate(rows):
        made = [next(results) for _ in media]
        errors = [result for result in made if isinstance(result, Exception)]
        if errors:
            failed.setdefault(row, errors[0])
        files.append(None if errors else [{"bytes": result, "path": None} for result in made])
    return files

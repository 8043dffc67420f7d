"""Media of rows become files. One that cannot be made, or whose making ends a process, costs its row and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.heads.head import ColumnType
from pipeline.runtime.stages.output_table import medium_array
from pipeline.sandbox import Died, NotStarted, ResourceLimits, Sandbox
from pipeline.sinks.media import MEDIA_ENCODERS
from pipeline.sinks.schema import arrow_type

Encode: TypeAlias = Callable[[str, Sequence[np.ndarray]], list[bytes | Exception]]
"""The file of each medium of a kind, or what went wrong with it."""

MEDIUM_SECONDS = 300.0  # of one medium: a clip's video takes tenths of one, an encoder that hangs takes for ever
MAX_ATTEMPTS = 2  # of a medium whose making ends a process


def encode_media(
    table: pa.Table, columns: Mapping[str, ColumnType], encode: Encode
) -> tuple[pa.Table, dict[int, Exception]]:
    """The table with each medium as its file, a struct of bytes and path; and what went wrong, by row.

    A row with an error is still there, without the files of that column, so that the others keep their places.
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
    """By this process: what an encoder raises is the medium's. MemoryError is raised: another attempt may succeed."""
    results: list[bytes | Exception] = []
    for medium in media:
        try:
            results.append(MEDIA_ENCODERS[kind](medium))
        except MemoryError:  # others of this machine may have it
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit is quarantined for it
            results.append(error)
    return results


def encode_in_sandbox(kind: str, media: Sequence[np.ndarray]) -> list[bytes | Exception]:
    """By a child process: a medium on which it ends twice has that for its error. NotStarted where there is none."""
    results: list[bytes | Exception] = []
    deaths = 0  # on the medium that is next
    with Sandbox(ResourceLimits(seconds=MEDIUM_SECONDS)) as child:
        while len(results) < len(media):
            before = len(results)
            try:
                for file in child.run(_encoded, kind, media[before:]):
                    results.append(file)  # noqa: PERF402 - those that came stay where the next one does not
            except NotStarted:
                raise
            except Exception as error:  # noqa: BLE001 - of the encoder, which raised it or ended the child
                deaths = deaths + 1 if len(results) == before else 1
                if not isinstance(error, Died) or deaths == MAX_ATTEMPTS:
                    results.append(error)
                    deaths = 0
    return results


def _encoded(kind: str, media: Sequence[np.ndarray]) -> Iterator[bytes]:
    """In the child: file by file."""
    for medium in media:
        yield MEDIA_ENCODERS[kind](medium)


def _files(
    column: pa.ChunkedArray, kind: str, encode: Encode, failed: dict[int, Exception]
) -> list[list[dict[str, Any]] | None]:
    """The files of each row's media; None where one of them has an error, which is entered."""
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

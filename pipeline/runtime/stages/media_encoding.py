"""Encode the media of rows as files. A medium that cannot be encoded, or whose encoder crashes, costs only its row."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.heads.head import ColumnType
from pipeline.runtime.stages.output_table import medium_array, medium_kind
from pipeline.sandbox import NotStarted, ResourceLimits, Sandbox, run_items
from pipeline.sinks.media import MEDIA_ENCODERS, media_encoder
from pipeline.sinks.schema import arrow_type

MEDIUM_SECONDS = 300.0  # time limit per medium: the video of a clip takes tenths of a second
MAX_ATTEMPTS = 2  # per medium that crashes its encoder


def encode_media(
    table: pa.Table, columns: Mapping[str, ColumnType], *, isolated: bool
) -> tuple[pa.Table, dict[int, Exception]]:
    """Return the table with each medium as a file, a struct of bytes and path, and the errors by row.

    isolated: Encode in a sandbox, because an encoder may crash the process.

    A row with an error stays in the table with null in that column, so that other rows keep their numbers.
    """
    encode = encode_in_sandbox if isolated else encode_directly
    failed: dict[int, Exception] = {}
    for at, name in enumerate(table.column_names):
        kind, listed = medium_kind(columns.get(name)), isinstance(columns.get(name), list)
        if kind is None:
            continue
        rows = [list(cell.values) if listed else [cell] for cell in table[name]]
        results = iter(encode(kind, [medium_array(medium, kind) for media in rows for medium in media]))
        values: list[Any] = []
        for row, media in enumerate(rows):
            files = list(islice(results, len(media)))
            if errors := [file for file in files if isinstance(file, Exception)]:
                failed.setdefault(row, errors[0])
                values.append(None)
            else:
                structs = [{"bytes": file, "path": None} for file in files]
                values.append(structs if listed else structs[0])
        table = table.set_column(at, name, pa.array(values, arrow_type(columns[name])))
    return table, failed


def encode_directly(kind: str, media: Sequence[np.ndarray]) -> list[bytes | Exception]:
    """Encode media in this process; an error of the encoder is the result of its medium.

    Raises MemoryError, because another attempt may succeed.
    """
    results: list[bytes | Exception] = []
    for medium in media:
        try:
            results.append(media_encoder(kind, MEDIA_ENCODERS)(medium))
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
        while len(results) < len(media):
            files = run_items(lambda _: sandbox.run(_encode, kind, media[len(results) :]), attempts=MAX_ATTEMPTS)
            try:
                for file in files:
                    results.append(file)  # noqa: PERF402 - files before an error are kept
            except NotStarted:
                raise
            except Exception as error:  # noqa: BLE001 - of the encoder, which raised it or crashed
                results.append(error)
    return results


def _encode(kind: str, media: Sequence[np.ndarray]) -> Iterator[bytes]:
    """In the sandbox: yield the file of each medium."""
    return (media_encoder(kind, MEDIA_ENCODERS)(medium) for medium in media)

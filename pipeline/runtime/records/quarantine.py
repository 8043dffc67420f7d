"""Why a unit was not predicted, as it travels with its shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields

import pyarrow as pa

from pipeline.sinks.parts import Quarantined
from pipeline.storage import redact

MESSAGE_LENGTH = 500


def quarantine_record(unit_id: str, uri: str, stage: str, error: BaseException, *, attempts: int = 1) -> Quarantined:
    """A unit and what went wrong with it: the error's class, and its message without secrets, in one line, cut to read
    well.

    Half characters, which a damaged name brings into a message and no column holds, are written out as \\udc80.
    """
    message = _in_one_line(redact(str(error)).encode(errors="backslashreplace").decode()) or "no reason was given"
    if len(message) > MESSAGE_LENGTH:
        message = message[: MESSAGE_LENGTH - 1] + "…"
    return Quarantined(id=unit_id, uri=uri, stage=stage, error=type(error).__name__, message=message, attempts=attempts)


def _in_one_line(text: str) -> str:
    """The text with a space for each of its breaks and control characters: some quote what they stumble over."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def quarantine_table(units: Iterable[Quarantined]) -> pa.Table:
    """The units as a table that `pack` takes."""
    rows = [asdict(unit) for unit in units]
    return pa.table({field.name: [row[field.name] for row in rows] for field in fields(Quarantined)})


def records_in_table(table: pa.Table) -> tuple[Quarantined, ...]:
    """The units of `to_table`."""
    return tuple(Quarantined(**row) for row in table.to_pylist())

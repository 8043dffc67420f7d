"""Records of quarantined units, and their table in a packed shard."""

from collections.abc import Iterable
from dataclasses import asdict, fields

import pyarrow as pa

from pipeline.sinks.parts import Quarantined
from pipeline.storage import redact

MESSAGE_LENGTH = 500


def quarantine_record(unit_id: str, uri: str, stage: str, error: BaseException, *, attempts: int = 1) -> Quarantined:
    """Return the record of a unit that failed: the error's class, and its message redacted, in one line, shortened.

    Lone surrogates, which come from damaged file names and cannot be stored in a column, are written as \\udc80.
    """
    text = redact(str(error)).encode(errors="backslashreplace").decode()
    # Some errors quote line breaks and control characters from the input.
    message = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    message = message or "no reason was given"
    if len(message) > MESSAGE_LENGTH:
        message = message[: MESSAGE_LENGTH - 1] + "…"
    return Quarantined(id=unit_id, uri=uri, stage=stage, error=type(error).__name__, message=message, attempts=attempts)


def quarantine_table(units: Iterable[Quarantined]) -> pa.Table:
    """Return the records as a table for `pack`."""
    rows = [asdict(unit) for unit in units]
    return pa.table({field.name: [row[field.name] for row in rows] for field in fields(Quarantined)})


def records_in_table(table: pa.Table) -> tuple[Quarantined, ...]:
    """Return the records in a `quarantine_table`."""
    return tuple(Quarantined(**row) for row in table.to_pylist())

"""Notes of a table: what was assumed or left out when it was made, as sentences in the metadata of its schema."""

import json
from collections.abc import Iterable

import pyarrow as pa

_KEY = b"notes"


def with_notes(table: pa.Table, notes: Iterable[str]) -> pa.Table:
    """Return the table with these notes."""
    return table.replace_schema_metadata({_KEY: json.dumps(list(notes))})


def notes_of(table: pa.Table) -> list[str]:
    """Return the notes of a table; [] if it has none."""
    return list(json.loads((table.schema.metadata or {}).get(_KEY, b"[]")))

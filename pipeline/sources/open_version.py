"""Opening a file only if it still has the planned version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pipeline.storage import Changed, Missing, Store


@contextmanager
def open_planned(store: Store, key: str, version: str) -> Iterator[BinaryIO]:
    """Open a seekable file, read by ranges. Raise Missing or Changed unless it has the planned version."""
    found = next((entry for entry in store.entries(key) if entry.key == key), None)
    if found is None:
        raise Missing(f"{store.uri_of(key)} was deleted after it was planned")
    if found.version != version:
        raise Changed(f"{store.uri_of(key)} changed: its version is {found.version}, expected {version}")
    with store.open(key) as file:
        yield file

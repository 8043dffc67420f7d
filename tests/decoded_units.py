"""Units with their media decoded, so that tests can compare `unit.medium` and `unit.error`."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.sources import Unit
from pipeline.storage import is_access_lost


def decode_all(units: Iterable[Unit]) -> list[Unit]:
    """Return the units, each with what `decode` returns as its medium or what it raises as its error."""
    decoded = list(units)
    for unit in decoded:
        try:
            unit.medium = unit.decode()
        except Exception as error:  # as in the load stage: it costs this unit only
            if is_access_lost(error):
                raise
            unit.error = error
    return decoded

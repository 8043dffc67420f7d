"""Files of OUTPUT that are damaged or strange are moved to `_run/set-aside/`, where nothing reads them (`--repair`)."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from pipeline.formatting import counted, first_of
from pipeline.sinks.ownership import check_owner
from pipeline.storage import Missing, Store

SET_ASIDE = "_run/set-aside/"


def put_aside(output: Store, run: str | None, keys: Iterable[str]) -> list[str]:
    """Move these files to a folder of their own in `_run/set-aside/`; return a note about them, if there are any.

    run: the run that OUTPUT has to belong to, else OutputLost is raised; None if that is unknown.
    """
    moved: list[str] = []
    folder = f"{SET_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}/"
    for key in keys:
        if run is not None and not moved:
            check_owner(output, run)
        with suppress(Missing):  # deleted meanwhile, or moved by another driver
            output.put(folder + key, output.read(key))
            output.delete(key)
            moved.append(key)
    return (
        [f"set aside: {counted(len(moved), 'file')} ({first_of(moved)}), to {output.uri_of(folder)}"] if moved else []
    )

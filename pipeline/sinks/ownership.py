"""Whose OUTPUT it is. Somebody may delete it under a run, and another run may use it again: what outlives its run must
not leave anything in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.storage import AccessError, Missing, Store

RUN_FILE = "_run/run.json"


class OutputLost(AccessError):  # noqa: N818 - it says what happened
    """OUTPUT was deleted, or belongs to another run by now: this run ends."""


def check_owner(output: Store, run: str) -> None:
    """OutputLost unless OUTPUT is that of the run with this name; one small request."""
    try:
        found = json.loads(output.read(RUN_FILE))["run"]
    except Missing:
        raise OutputLost(f"{output.uri} is no longer the OUTPUT of run {run}: {RUN_FILE} was deleted") from None
    if found != run:
        raise OutputLost(f"{output.uri} is no longer the OUTPUT of run {run}: it belongs to run {found}")


@contextmanager
def checking_ownership(output: Store, run: str, *keys: str) -> Iterator[None]:
    """A block that puts these keys, whose names or contents no other run has. OutputLost where OUTPUT is not this run's
    before, or no longer is after: then they are deleted again, with what the block did not come to put."""
    check_owner(output, run)
    try:
        yield
    except Missing:  # a folder that was there a moment ago
        check_owner(output, run)
        raise
    try:
        check_owner(output, run)
    except OutputLost:
        for key in keys:
            output.delete(key)
        raise

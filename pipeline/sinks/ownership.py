"""Checks that OUTPUT still belongs to the run that writes to it.

A user may delete OUTPUT during a run, and another run may reuse it. Tasks that outlive their run must leave nothing in
it."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.sinks.run_records import read_record
from pipeline.storage import AccessError, Missing, Store

RUN_FILE = "_run/run.json"


class OutputLost(AccessError):  # noqa: N818 - a state of OUTPUT
    """OUTPUT was deleted or belongs to another run. Ends this run."""


def check_owner(output: Store, run: str) -> None:
    """Raise OutputLost unless OUTPUT belongs to the run. One small request."""
    try:
        found = read_record(output, RUN_FILE, lambda data: json.loads(data)["run"])
    except Missing:
        raise OutputLost(f"{output.uri} is no longer the OUTPUT of run {run}: {RUN_FILE} was deleted") from None
    if found != run:
        raise OutputLost(f"{output.uri} is no longer the OUTPUT of run {run}: it belongs to run {found}")


@contextmanager
def checking_ownership(output: Store, run: str, *keys: str) -> Iterator[None]:
    """Check the owner of OUTPUT before and after the block, which writes `keys` that no other run writes.

    Raises OutputLost if OUTPUT does not belong to the run; after the block the keys are deleted again first.
    """
    check_owner(output, run)
    try:
        yield
    except Missing:  # a folder was deleted during the block
        _check_owner_or_delete(output, run, keys)
        raise
    _check_owner_or_delete(output, run, keys)


def _check_owner_or_delete(output: Store, run: str, keys: Iterable[str]) -> None:
    try:
        check_owner(output, run)
    except OutputLost:
        for key in keys:
            output.delete(key)
        raise

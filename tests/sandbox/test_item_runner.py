"""Items that crash their process are named, and the others have their results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox import Crashed, Failed, ResourceLimits, Sandbox, SharedSandbox, run_items
from tests.sandbox import child_functions


def items(sandbox: Sandbox, names: Sequence[str], folder: Path, attempts: int = 2, **more: int) -> list[Any]:
    """The results of `child_functions.work_on` for each name."""
    return list(
        run_items(lambda first: sandbox.run(child_functions.work_on, folder, names[first:]), attempts=attempts, **more)
    )


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(ResourceLimits(60.0)) as sandbox:
        yield sandbox


def test_an_item_that_crashes_each_time_fails_and_the_others_succeed(sandbox: Sandbox, tmp_path: Path) -> None:
    first, failed, last = items(sandbox, ["a", "crash", "b"], tmp_path)
    assert (first, last) == ("a", "b")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Crashed)
    assert (failed.item, failed.attempts) == ("crash", 2)
    assert len(list(tmp_path.glob("crash-*"))) == 2


def test_an_item_that_crashes_once_succeeds_when_retried(sandbox: Sandbox, tmp_path: Path) -> None:
    assert items(sandbox, ["a", "crash once", "b"], tmp_path) == ["a", "crash once", "b"]


def test_earlier_attempts_at_the_first_item_count(sandbox: Sandbox, tmp_path: Path) -> None:
    (failed,) = items(sandbox, ["crash"], tmp_path, failed_attempts=1)
    assert failed.attempts == 2
    assert len(list(tmp_path.glob("crash-*"))) == 1


def test_a_crash_before_any_item_was_started_is_raised(sandbox: Sandbox) -> None:
    with pytest.raises(Crashed, match="SIGABRT"):
        list(run_items(lambda _: sandbox.run(os.abort), attempts=2))


def test_other_errors_are_raised_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot work on error"):
        items(sandbox, ["a", "error", "b"], tmp_path)
    assert len(list(tmp_path.glob("error-*"))) == 1


def test_a_call_that_lacks_memory_runs_again_alone_in_a_new_process() -> None:
    limits = ResourceLimits(60.0, memory_bytes=200 << 20)
    with Sandbox(limits) as shared, closing(SharedSandbox(shared)) as sandbox:
        (before,) = sandbox.run(child_functions.process_ids, 1, seconds=60.0)
        with pytest.raises(MemoryError):
            sandbox.run(child_functions.allocate, 300 << 20, seconds=60.0)
        assert sandbox.run(child_functions.process_ids, 1, seconds=60.0) != [before]
        assert list(sandbox.run_alone(child_functions.allocate_from, 100 << 20, seconds=60.0)) == [100 << 20]

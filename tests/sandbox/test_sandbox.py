"""Calls in a sandbox: their results and errors."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.sandbox import NotStarted, ResourceLimits, Sandbox
from pipeline.storage import StorageError
from tests.sandbox import child_functions


@pytest.fixture(scope="module")
def child() -> Iterator[Sandbox]:
    with Sandbox(ResourceLimits(60.0), threads=4) as child:
        yield child


def test_results_come_in_order_from_one_other_process(child: Sandbox) -> None:
    assert list(child.run(child_functions.echo, 1, "two", None, (3, {"four": 4.0}))) == [
        1,
        "two",
        None,
        (3, {"four": 4.0}),
    ]
    assert list(child.run(child_functions.echo)) == []
    first, second = set(child.run(child_functions.process_ids, 3)), set(child.run(child_functions.process_ids, 3))
    assert first == second != {os.getpid()}


def test_results_are_made_on_request(child: Sandbox, tmp_path: Path) -> None:
    results = child.run(child_functions.noted, tmp_path, 10)
    assert not list(tmp_path.iterdir())
    assert (next(results), (tmp_path / "made").read_text()) == (0, "0")
    assert (next(results), (tmp_path / "made").read_text()) == (1, "1")
    results.close()
    assert (tmp_path / "closed").exists()
    assert (tmp_path / "made").read_text() == "1"
    assert list(child.run(child_functions.echo, "next call")) == ["next call"]


def test_calls_of_several_threads_run_in_parallel(child: Sandbox, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        met = [
            pool.submit(lambda name=name: list(child.run(child_functions.meet, tmp_path, name, 3))) for name in "abcd"
        ]
        assert [future.result(60) for future in met] == [["a"], ["b"], ["c"], ["d"]]


def test_more_calls_than_threads_wait_for_their_turn() -> None:
    with Sandbox(ResourceLimits(60.0), threads=2) as child, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: list(child.run(child_functions.echo, number)), range(40)))
    assert found == [[number] for number in range(40)]


@pytest.mark.parametrize("size", [0, 1, 100, 5000, 300_000])
def test_arrays_arrive_unchanged(child: Sandbox, size: int) -> None:
    numbers = np.random.default_rng(size)
    plain = numbers.integers(0, 256, (size, 3), np.uint8)
    arrays = {
        "plain": plain,
        "floats": numbers.normal(size=(2, size)).astype(np.float32),
        "columns": np.asfortranarray(plain.astype(np.int64)),
        "every second": plain[::2],
        "scalar": np.float64(0.5),
        "words": np.array(["a", "bcd"] * size),
    }
    (found,) = child.run(child_functions.echo, arrays)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    found["plain"] += 1  # it is the receiver's own


def test_functions_and_classes_of_no_module_are_sent_too(child: Sandbox) -> None:
    class MediumKind:
        def __init__(self, value: int) -> None:
            self.value = value

    class Refused(Exception):  # noqa: N818
        pass

    def halves(base: int, *media: MediumKind) -> Iterator[MediumKind]:
        for medium in media:
            if medium.value % 2:
                raise Refused(f"{medium.value} is odd")
            yield MediumKind(base + medium.value // 2)

    results = child.run(partial(halves, 100), MediumKind(4), MediumKind(8), MediumKind(3))
    found = [next(results), next(results)]
    assert [(type(medium), medium.value) for medium in found] == [(MediumKind, 102), (MediumKind, 104)]
    with pytest.raises(Refused, match="3 is odd"):
        next(results)


def test_error_of_a_call_is_raised_to_its_caller(child: Sandbox) -> None:
    results = child.run(child_functions.fail, "storage")
    assert next(results) == "begun"
    with pytest.raises(StorageError, match="503") as error:
        next(results)
    assert error.value.transient
    assert "in its own process" in error.value.__notes__[0]
    assert "child_functions.py" in error.value.__notes__[0]
    with pytest.raises(EOFError, match="the file's end"):
        list(child.run(child_functions.fail, "otherwise"))


@pytest.mark.parametrize(
    ("how", "name", "words"),
    [
        ("two", "NeedsTwo", "this and that"),
        ("lambda", "ValueError", "with what cannot be pickled"),
        ("exit", "SystemExit", "3"),
        ("result", "TypeError", "cannot pickle"),
    ],
)
def test_error_that_cannot_be_pickled_keeps_its_class_name(child: Sandbox, how: str, name: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as error:
        list(child.run(child_functions.fail, how))
    assert type(error.value).__name__ == name
    assert list(child.run(child_functions.echo, "next call")) == ["next call"]


def test_child_outlives_the_thread_that_started_it() -> None:
    with Sandbox(ResourceLimits(60.0)) as child:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.extend(child.run(child_functions.process_ids, 1)))
        thread.start()
        thread.join()
        assert list(child.run(child_functions.process_ids, 1)) == found


def test_closed_sandbox_has_no_process_until_its_next_call() -> None:
    child = Sandbox(ResourceLimits(60.0))
    child.close()  # nothing was started
    (first,) = child.run(child_functions.process_ids, 1)
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    (second,) = child.run(child_functions.process_ids, 1)
    child.close()
    assert first != second


def test_child_imports_from_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def give():\n    yield __file__\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with Sandbox(ResourceLimits(60.0)) as child:
        assert list(child.run(only_here.give)) == [str(tmp_path / "only_here.py")]


def test_failed_start_is_not_blamed_on_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with Sandbox(ResourceLimits(60.0)) as child, pytest.raises(NotStarted, match="exit code 1: ModuleNotFoundError"):
        list(child.run(child_functions.echo, 1))


def test_output_of_the_child_does_not_reach_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox(ResourceLimits(60.0)) as child:
        assert list(child.run(child_functions.chatter)) == ["done"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("threads", [0, -1])
def test_number_of_threads_must_be_positive(threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads \({threads}\) must be at least 1"):
        Sandbox(ResourceLimits(60.0), threads=threads)

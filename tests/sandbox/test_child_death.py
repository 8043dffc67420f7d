"""Child processes that crash, hang or take too much memory: the errors of their callers. None outlives its parent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.sandbox import Crashed, Died, ResourceLimits, Sandbox, TimedOut, is_memory_shortage
from pipeline.storage import StorageError
from tests.sandbox import child_functions


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("segfault", r"the child process died of signal 11 \(SIGSEGV\)"),
        ("abort", r"the child process died of signal 6 \(SIGABRT\): free\(\): invalid pointer, token=\*\*\*"),
        ("kill", r"the child process died of signal 9 \(SIGKILL\) \(possibly because the system ran out of memory\)"),
        ("3", "the child process ended with exit code 3"),
        ("0", "the child process ended with exit code 0"),
    ],
)
def test_error_message_describes_how_the_process_died(how: str, words: str) -> None:
    with Sandbox(ResourceLimits(60.0)) as child:
        results = child.run(child_functions.die, how)
        assert next(results) == "alive"
        with pytest.raises(Crashed, match=f"^{words}$") as error:
            next(results)
        assert error.value.culprit
        assert list(child.run(child_functions.echo, "another one")) == ["another one"]


def test_process_that_closes_its_sockets_is_ended() -> None:
    with Sandbox(ResourceLimits(60.0)) as child, pytest.raises(Died):
        list(child.run(child_functions.die, "close"))


@pytest.mark.parametrize("hold", [False, True], ids=["sleeping", "with every thread held"])
def test_hanging_call_is_ended_at_its_time_limit(hold: bool) -> None:
    with Sandbox(ResourceLimits(0.5)) as child:
        (process,) = child.run(child_functions.process_ids, 1)
        with pytest.raises(TimedOut, match=r"^no result within 0\.5 s$") as error:
            list(child.run(lambda: child_functions.sleep(60, hold=hold)))
        assert error.value.culprit
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
        assert list(child.run(child_functions.echo, "another one")) == ["another one"]


def test_calls_next_to_one_that_crashes_are_not_culprits(tmp_path: Path) -> None:
    with Sandbox(ResourceLimits(60.0), threads=3) as child, ThreadPoolExecutor(3) as pool:
        suspended = child.run(child_functions.echo, 1, 2)
        assert next(suspended) == 1
        waiting = pool.submit(lambda: list(child.run(child_functions.meet, tmp_path, "waiting", 9)))
        while not (tmp_path / "waiting").exists():
            time.sleep(0.01)
        died = pool.submit(lambda: list(child.run(child_functions.die, "segfault")))
        for call in (lambda: died.result(60), lambda: waiting.result(60), lambda: next(suspended)):
            with pytest.raises(Crashed, match="SIGSEGV") as error:
                call()
            assert not error.value.culprit  # of two at work
        assert list(child.run(child_functions.echo, "another one")) == ["another one"]


def test_suspended_call_is_not_suspected_of_a_crash() -> None:
    with Sandbox(ResourceLimits(60.0), threads=2) as child:
        suspended = child.run(child_functions.echo, 1, 2)
        assert next(suspended) == 1
        with pytest.raises(Crashed) as error:
            list(child.run(child_functions.die, "segfault"))
        assert error.value.culprit


def test_call_that_exceeded_its_time_limit_is_the_culprit(tmp_path: Path) -> None:
    with Sandbox(ResourceLimits(1.0), threads=2) as child, ThreadPoolExecutor(2) as pool:
        list(child.run(child_functions.echo, 1))
        hung = pool.submit(lambda: list(child.run(child_functions.sleep, 60)))
        time.sleep(0.5)
        neighbour = pool.submit(lambda: list(child.run(child_functions.sleep, 60)))
        with pytest.raises(TimedOut) as error:
            hung.result(60)
        assert error.value.culprit
        with pytest.raises(TimedOut, match="because another call in it had no result within 1 s") as error:
            neighbour.result(60)
        assert not error.value.culprit


def test_time_limit_applies_per_result_and_pauses_between_results() -> None:
    with Sandbox(ResourceLimits(1.0)) as child:
        results = child.run(lambda: (next(iter(child_functions.sleep(0.4))) for _ in range(4)))
        assert next(results) == "slept"
        time.sleep(1.2)
        assert list(results) == ["slept"] * 3


def test_storage_waits_do_not_count_against_the_time_limit() -> None:
    with Sandbox(ResourceLimits(1.0)) as child:
        assert list(child.run(child_functions.sleep_in_storage, 0.8, 2)) == ["slept"]
        with pytest.raises(StorageError, match="no answer"):
            list(child.run(child_functions.fail_in_storage))
        with pytest.raises(TimedOut):  # which does not stop the clock for good
            list(child.run(lambda: (list(child_functions.sleep_in_storage(0.1, 1)), *child_functions.sleep(60))))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_memory_is_limited() -> None:
    with Sandbox(ResourceLimits(60.0, memory_bytes=200 << 20), threads=8) as child:
        assert list(child.run(child_functions.allocate, 100 << 20)) == [100 << 20]
        with pytest.raises(MemoryError) as error:
            list(child.run(child_functions.allocate, 300 << 20))
        assert is_memory_shortage(error.value)
        assert list(child.run(child_functions.allocate, 100 << 20)) == [100 << 20]
    with Sandbox(ResourceLimits(60.0)) as child:
        assert list(child.run(child_functions.allocate, 300 << 20)) == [300 << 20]


def _raised(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError("out of memory when reading image file"), True),
        (zlib.error("Error -4 while decompressing data: insufficient memory"), True),
        (RuntimeError("can't start new thread"), True),
        (_raised(ValueError("no memory for PNG"), MemoryError()), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("image file is truncated"), False),
        (None, False),
    ],
)
def test_every_form_of_memory_shortage_is_recognized(error: Exception | None, short: bool) -> None:
    assert is_memory_shortage(error) is short


_PARENT = """
import sys, threading
from functools import partial
from pipeline.sandbox import Sandbox, ResourceLimits
from tests.sandbox import child_functions as work

child = Sandbox(ResourceLimits(600.0), threads=2)
print(*child.run(work.process_ids, 1), flush=True)
if sys.argv[1] != "idle":
    threading.Thread(target=lambda: list(child.run(partial(work.sleep, 600, hold=sys.argv[1] == "held")))).start()
    print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("at_work", ["idle", "sleeping", "held"])
def test_child_ends_when_its_parent_is_killed(at_work: str) -> None:
    if at_work == "held" and sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    command = [sys.executable, "-c", _PARENT, at_work]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=Path(__file__).parents[2]) as parent:  # type: ignore[call-overload]
        child = int(parent.stdout.readline())
        assert _runs(child)
        if at_work != "idle":
            parent.stdout.readline()
            time.sleep(0.3)
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def _runs(process: int) -> bool:
    """Whether the process runs; a zombie does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return found.returncode == 0 and not found.stdout.startswith("Z")


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """Those of a test have ended with it."""
    yield
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    assert "pipeline.sandbox.child_main" not in found.stdout

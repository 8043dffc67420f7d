"""SIGTERM and Ctrl-C at moments of a command at which no verb waits: imports, the start of Ray, the end."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.situations.interruptions import AGAIN, stop
from tests.situations.situation import SECONDS, SETTLE_SECONDS, Ended, Situation, World

RESUMES = "the same command resumes the run"
Moment = Callable[[psutil.Process], bool]


def handles_signals(process: psutil.Process) -> bool:
    """Return whether Python has begun to import the package, which first of all sets handlers of signals."""
    caught = next(line for line in _status(process).splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def has_loaded(library: str) -> Moment:
    """Return the moment at which a process has loaded a library, whose importing takes on."""
    return lambda process: any(library in mapped.path for mapped in process.memory_maps())


def has_started(name: str) -> Moment:
    """Return the moment at which a process has a child of this name."""
    return lambda process: any(name in child.name() for child in process.children(recursive=True))


def _status(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/status").read_text()


def stopped_at(moment: Moment, number: signal.Signals, verb: str) -> Callable[[World], Ended]:
    """Stop a verb at a moment of its process."""

    def act(world: World) -> Ended:
        with tempfile.TemporaryDirectory(dir="/tmp") as cluster:
            with world.started(*_command(world, verb), environment={"RAY_TMPDIR": cluster}) as process:
                _await(moment, process)
                ended = stop(process, number)
            _assert_gone(world, Path(cluster))
        return ended

    return act


def stopped_at_each(moments: Sequence[float], number: signal.Signals, verb: str) -> Callable[[World], Ended]:
    """Stop a verb after each of these seconds, or let it end right if it is done by then; return the first end."""

    def act(world: World) -> Ended:
        ends = []
        for seconds in moments:
            with tempfile.TemporaryDirectory(dir="/tmp") as cluster:
                with world.started(*_command(world, verb), environment={"RAY_TMPDIR": cluster}) as process:
                    _await(handles_signals, process)
                    time.sleep(seconds)
                    ended = stop(process, number)
                _assert_gone(world, Path(cluster))
            assert ended.code == 0 or f"error: stopped by {number.name}; " in ended.printed, (
                f"after {seconds} s: {ended}"
            )
            assert ended.code in (0, 1), f"after {seconds} s: {ended}"
            assert "Traceback" not in ended.printed, f"after {seconds} s: {ended}"
            ends.append(ended)
        return ends[0]

    return act


def _command(world: World, verb: str) -> list[str]:
    """Return a command line of the verb; OUTPUT of a verb that reads one has a finished run."""
    world.write_images(world.input, range(4))
    new = Path(tempfile.mkdtemp(dir=world.folder))
    output, run = str(world.output), ("image-classification", str(world.input), str(world.output))
    if verb in ("status", "report", "export") and not world.output.exists():
        finished = world.run()
        assert finished.code == 0, finished.printed
    return {
        "run": ["run", *run, "--checkpoint", str(world.checkpoint), "--shard-size", "1", "--address", "local"],
        "plan": ["plan", *run, "--checkpoint", str(world.checkpoint), "--address", "local"],
        "demo": ["demo", str(new / "demo")],
        "status": ["status", output],
        "report": ["report", output],
        "export": ["export", output, str(new / "rows.csv"), "--to", "csv"],
    }[verb]


def _await(moment: Moment, process: subprocess.Popen[str]) -> None:
    """Wait until a process, which bash becomes first, is at a moment."""
    known, deadline = psutil.Process(process.pid), time.monotonic() + SECONDS
    while not ("python" in known.name() and moment(known)):
        assert process.poll() is None, "it ended before the moment came"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.005)


def _assert_gone(world: World, cluster: Path) -> None:
    """Assert that the processes of a local cluster end after its driver, and that its files are deleted."""
    left = world.left_behind(SETTLE_SECONDS)
    assert left == [], left
    files = [str(path) for path in cluster.rglob("*")]
    assert files == [], files


MOMENTS = {
    f"{number.name} while {verb} {words}": Situation(
        act=stopped_at(moment, number, verb), code=1, says=f"error: stopped by {number.name}; {advice}", is_slow=is_slow
    )
    for verb, words, moment, advice, is_slow in (
        ("status", "is imported", handles_signals, AGAIN, False),
        ("run", "imports torch", has_loaded("libtorch_cpu"), "the same command", True),
        ("run", "imports Ray", has_loaded("_raylet"), RESUMES, True),
        ("run", "starts the first process of Ray", has_started("gcs_server"), RESUMES, False),
        ("run", "starts the last process of Ray", has_started("raylet"), RESUMES, True),
        ("plan", "starts Ray", has_started("gcs_server"), RESUMES, True),
    )
    for number in (signal.SIGTERM, signal.SIGINT)
}
MOMENTS |= {
    f"{number.name} at any moment of {verb}": Situation(
        act=stopped_at_each(moments, number, verb), code=1, says="error: stopped by", is_slow=True
    )
    for verb, moments in (
        ("status", [step / 10 for step in range(8)]),
        ("export", [step / 5 for step in range(10)]),
        ("run", [step / 2 for step in range(30)]),
        ("plan", [step + 0.25 for step in range(12)]),
        ("demo", [2.0 * step for step in range(12)]),
    )
    for number in (signal.SIGTERM, signal.SIGINT)
}

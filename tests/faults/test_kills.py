"""Processes that die in the middle: whatever is killed, every unit comes out once, and nothing is done twice for it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle
from rich.console import Console

from pipeline.runtime import RunFailed, RunOptions, prepare, run
from pipeline.runtime.receipts import read_receipts
from pipeline.runtime.resume import committed
from pipeline.storage import Store

# Workers cannot import this file: what it defines travels with the task.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def options(tmp_path: Path, checkpoint: Path) -> RunOptions:
    return RunOptions(
        task="image-classification",
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        shard_size=2,
        replicas=2,
    )


def execute(options: RunOptions) -> run.Summary:
    return run.execute(options, console=Console(file=io.StringIO()))


def start(options: RunOptions) -> subprocess.Popen:
    """`perceiver run` with a Ray cluster of its own, as a user starts it."""
    flags = ["--checkpoint", options.checkpoint, "--shard-size", str(options.shard_size), "--replicas", "2"]
    command = [sys.executable, "-m", "jobs.run", options.task, options.input, options.output, *flags]
    return subprocess.Popen([*command, "--address", "local"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert driver is None or driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.02)


def parts(options: RunOptions) -> dict[str, tuple[int, int]]:
    """The parts there are, and what would tell that one was written again."""
    folder = Path(options.output, "predictions")
    found = {path.name: path.stat() for path in folder.glob("*.parquet")} if folder.exists() else {}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def ids(options: RunOptions) -> list[str]:
    folder = Path(options.output, "predictions")
    return sorted(row for path in folder.glob("*.parquet") for row in pq.read_table(path)["id"].to_pylist())


def kill_after(options: RunOptions, count: int) -> None:
    """A run whose driver is killed once there are `count` parts more. Its processes are gone when this returns."""
    before = len(parts(options))
    driver = start(options)
    try:
        wait_for(lambda: len(parts(options)) >= before + count, driver)
    finally:
        family = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        # Its workers may still commit what they are at; Ray's helpers outlive them and are of no use to anyone.
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()


def assert_resumed(options: RunOptions, known: dict, drivers: set[str], summary: run.Summary, units: int) -> None:
    """Nothing was lost, and no shard that had a part was scheduled again."""
    assert summary.resumed >= len(known)
    assert {name: found for name, found in parts(options).items() if name in known} == known
    shards = {int(name.split("-")[-1].removesuffix(".parquet")) for name in known}
    heard = read_receipts(Store(options.output)).values()
    scheduled = {receipt.shard for receipt in heard if receipt.driver and receipt.driver not in drivers}
    assert scheduled, "the resume had something to do"
    assert not scheduled & shards
    assert len(ids(options)) == len(set(ids(options))) == summary.rows == units


def drivers_of(options: RunOptions) -> set[str]:
    return {receipt.driver for receipt in read_receipts(Store(options.output)).values()}


def test_killed_run_resumes_without_loss(options, put_pictures, cluster):
    put_pictures(Path(options.input), range(240), damaged=(3, 100))
    kill_after(options, 10)
    known, drivers = parts(options), drivers_of(options)
    assert 10 <= len(known) < 120
    assert_resumed(options, known, drivers, execute(options), units=238)


class Slow:
    """The real head, a tenth of a second slower."""

    def __init__(self, head):
        self.head = head
        self.columns, self.options, self.unit_bytes = head.columns, head.options, head.unit_bytes
        self.task, self.transform, self.collate, self.rows = head.task, head.transform, head.collate, head.rows
        self.bucket, self.counts, self.decode = head.bucket, head.counts, head.decode
        self.medium, self.growth, self.clip, self.stored = head.medium, head.growth, head.clip, head.stored

    def encode(self, model, inputs):
        time.sleep(0.1)
        return self.head.encode(model, inputs)


class Deadly(Slow):
    """The real head; the unit that is all black takes its process with it, each time."""

    def encode(self, model, inputs):
        if any(not image.any() for image in inputs):
            os._exit(1)
        return self.head.encode(model, inputs)


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Slow]], None]:
    """`wrapped(Slow)`: runs use the real head in that wrapper."""
    head_for = prepare.head_for

    def wrap(kind: type[Slow]) -> None:
        monkeypatch.setattr(prepare, "head_for", lambda *given: kind(head_for(*given)))

    return wrap


def replicas() -> Iterator[psutil.Process]:
    """The replicas' processes of this session's cluster, by their titles."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker(MapBatches(Replica))" in " ".join(process.cmdline()):
                yield process
        except psutil.Error:
            continue


def test_a_killed_replica_costs_no_row(options, put_pictures, cluster, wrapped):
    put_pictures(Path(options.input), range(60), damaged=(3,))
    wrapped(Slow)
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: len(parts(options)) >= 4)
        victim = next(replicas())
        killed.extend([victim.pid, len(parts(options))])
        os.kill(victim.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    summary = execute(options)
    thread.join()
    assert killed, "a replica was killed"
    assert killed[1] < 30, "in the middle"
    assert (summary.shards, summary.units, summary.quarantined) == (30, 60, 1)
    assert len(ids(options)) == len(set(ids(options))) == summary.rows == 59


def test_a_shard_that_kills_its_process_does_not_stop_the_others(options, put_pictures, cluster, wrapped, monkeypatch):
    from PIL import Image

    put_pictures(Path(options.input), range(40))
    Image.new("RGB", (40, 40)).save(Path(options.input, "0021.png"))
    wrapped(Deadly)
    monkeypatch.setattr(run, "PASSES", 2)
    with pytest.raises(RunFailed, match=r"1 of 20 shards are left after 2 passes; the same command resumes"):
        execute(options)
    wait_for(lambda: not list(replicas()), seconds=20)  # one that is restarting when its pass ends is not forgotten
    missing = {f"{n:04d}.{'png' if n % 2 else 'jpg'}" for n in range(40)} - set(ids(options))
    assert missing == {"0020.jpg", "0021.png"}
    output = Store(options.output)
    name = next(iter(parts(options))).split("-")[1]
    assert committed(output, name) == set(range(20)) - {10}
    wrapped(Slow)
    assert execute(options).rows == 40

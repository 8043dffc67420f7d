"""Run again and again over a faulty store while processes are killed: `make soak MINUTES=60`.

`python -m tests.faults.soak --minutes 30 --seed 0`. Inputs are added before every start of a driver. Every 10 to 30
seconds a load task, a replica, a write task or, less often, the driver is killed; then the same command runs again.
After a last, undisturbed run every unit must be there once. Prints a table and a line of JSON; exits with 1 if a unit
is lost or duplicated, or if a run ended unexpectedly.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import boto3
from rich.console import Console

from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.storage import Store
from tests.faults.killed_runs import KILLED, Points
from tests.faults.memory import Watch
from tests.faults.object_store_servers import counts_of, faulty_way, s3_server
from tests.faults.photographs import Photographs
from tests.faults.random_kills import STAGES, kill_driver, kill_worker
from tests.faults.soak_run import report

RATE = 0.05  # share of requests that fail
PAUSES = 10.0, 30.0  # seconds between kills
KINDS = {"load": 4, "replica": 4, "write": 4, "driver": 1}  # relative frequency of kills
SHARD = 8
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "soak", "AWS_SECRET_ACCESS_KEY": "soak", "AWS_DEFAULT_REGION": "us-east-1"}
LEAVING, LAST_RUN = 120.0, 3600.0  # seconds that a run may take after SIGTERM, and undisturbed


class Soak:
    """The state of a soak: which driver runs, what was killed, and how runs ended."""

    def __init__(self, folder: Path, photographs: Photographs, output: str, minutes: float, seed: int) -> None:
        self.folder, self.photographs, self.output = folder, photographs, output
        self.chance = random.Random(seed)
        self.points = Points(folder / "points")
        self.driver: subprocess.Popen[bytes] | None = None
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.messages: list[str] = []  # output of runs that failed without being killed
        self.life = min(480.0, 20 * minutes)  # seconds that the inputs of a run should last
        self.batch = int(2 * self.life)  # number of inputs of the first run
        self.console = Console(stderr=True)

    def disturbed(self, seconds: float) -> None:
        """Run and kill for this long, then stop the last run with SIGTERM."""
        until = time.monotonic() + seconds
        inputs = self.batch
        while time.monotonic() < until:
            self.photographs.put(inputs)
            began = time.monotonic()
            driver = self.start(os.environ["AWS_ENDPOINT_URL"])
            while driver.poll() is None and time.monotonic() < until:
                self._kill(driver, until)
            if driver.poll() is None:
                driver.send_signal(signal.SIGTERM)
            self._note_end(driver, LEAVING)
            inputs = self._more(driver.returncode, time.monotonic() - began)

    def start(self, endpoint: str) -> subprocess.Popen[bytes]:
        """Start the command with the faulty store."""
        command = [sys.executable, "-m", "jobs.run", "image-classification", self.photographs.uri, self.output]
        command += ["--checkpoint", str(self.folder / "model"), "--replicas", "2", "--shard-size", str(SHARD)]
        command += ["--max-quarantine", "1", "--address", "local", "--no-report"]
        ours = self.points.environment | {"AWS_ENDPOINT_URL": endpoint, "RAY_TMPDIR": str(self.folder)}
        with Path(self.folder, "stderr").open("wb") as stderr:
            streams = {"stdout": subprocess.DEVNULL, "stderr": stderr}
            self.driver = subprocess.Popen(command, env=os.environ | ours, **streams)
        return self.driver

    def finish(self, endpoint: str) -> None:
        """Run to the end undisturbed."""
        self.points.clear()
        driver = self.start(endpoint)
        self._note_end(driver, LAST_RUN)

    def clear(self) -> None:
        """Kill what remains of a run."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self.points.clear()

    def _kill(self, driver: subprocess.Popen[bytes], until: float) -> None:
        """Wait, then kill a process if the run still lasts; if there is none of a kind, kill one of another kind."""
        deadline = min(until, time.monotonic() + self.chance.uniform(*PAUSES))
        while time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.2)
        killed = False
        while not killed and time.monotonic() < until and driver.poll() is None:
            kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            killed = self._killed(driver, kind)
            self.kills[kind if killed else "no process found"] += 1
            self.console.print(f"{time.strftime('%H:%M:%S')} {kind} {'killed' if killed else 'not found'}")

    def _killed(self, driver: subprocess.Popen[bytes], kind: str) -> bool:
        if kind in STAGES:
            return kill_worker(driver, self.points, kind, self.chance)
        kill_driver(driver, self.points, self.chance.choice([0.0, 5.0]))
        return True

    def _note_end(self, driver: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait for the run and record how it ended."""
        try:
            end = str(driver.wait(seconds))
        except subprocess.TimeoutExpired:
            end = "late"
        self.ends[end] += 1
        if end not in ("0", str(KILLED)):
            stderr = " ".join(Path(self.folder, "stderr").read_text(errors="replace").split())
            self.messages.append(f"{end}: {stderr[-1000:]}")
        self.console.print(f"{time.strftime('%H:%M:%S')} the run ended with {end}")
        self.clear()

    def _more(self, code: int | None, seconds: float) -> int:
        """Return how many inputs to add: enough for a new run if the last one finished, else a few."""
        if code != 0:
            return max(SHARD, self.batch // 20)
        self.batch = int(self.batch * min(3.0, max(0.5, self.life / seconds)))
        return self.batch


def soak(minutes: float, seed: int) -> bool:
    """Run the soak; return whether every check holds."""
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        endpoint = running.enter_context(s3_server())
        way = running.enter_context(faulty_way(endpoint, rate=RATE, seed=seed))
        os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint)
        make_checkpoint(FOURIER, small(FOURIER), folder / "model")
        client = boto3.client("s3", endpoint_url=endpoint)
        for bucket in ("photographs", "labels"):
            client.create_bucket(Bucket=bucket)
        output = Store("s3://labels/run")  # connects to the server directly
        run = Soak(folder, Photographs(client, "photographs", seed), output.uri, minutes, seed)
        running.callback(run.clear)
        watch = running.enter_context(Watch(lambda: run.driver))
        os.environ["AWS_ENDPOINT_URL"] = way
        run.disturbed(60 * minutes)
        faults = counts_of(way)
        run.finish(endpoint)
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        return report(run, output, faults, watch.lives, minutes=minutes, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs over a store that fails, with processes killed all the while.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds the blocks, which cleans up
    sys.exit(0 if soak(arguments.minutes, arguments.seed) else 1)


if __name__ == "__main__":
    main()

"""Two runs of one command at once, each with its own Ray cluster, into one OUTPUT: duplicate work at worst, never rows.

They take minutes: `pytest -m slow tests/faults/test_two_runs.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.runtime.plan.plan_files import read_segments
from tests.faults.killed_runs import SECONDS, Job, Points, ended, start, wait_for
from tests.faults.output_invariants import assert_complete, assert_only_committed_parts
from tests.faults.random_kills import kill_driver, kill_worker

KINDS = ("driver", "load", "replica", "write")


class Run:
    """One of the two runs: its driver, which is restarted after each kill, and its fault points."""

    def __init__(self, job: Job, points: Points) -> None:
        self.job, self.points = job, points
        self.driver = start(job.options, points)

    def kill(self, kind: str, chance: random.Random) -> None:
        """Kill a worker of that stage once there is one, or the driver, whose workers may outlive it briefly."""
        time.sleep(chance.uniform(0, 3))
        if kind == "driver":
            kill_driver(self.driver, self.points, outlived=chance.uniform(0, 5))
            self.driver = start(self.job.options, self.points)
        else:
            deadline = time.monotonic() + SECONDS
            while not kill_worker(self.driver, self.points, kind, chance):
                assert time.monotonic() < deadline, f"no process of {kind} appeared"
                assert self.driver.poll() is None, "the run ended before its kills: plan more images"

    def clear(self) -> None:
        """Kill what remains of the run."""
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.communicate()
        self.points.clear()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[Job], Run]]:
    """`begin(job)`: start a run, or another next to it. The first uses the fault points of the job."""
    begun: list[Run] = []

    def one(job: Job) -> Run:
        begun.append(Run(job, Points(tmp_path / f"points {len(begun)}") if begun else job.points))
        return begun[-1]

    yield one
    for run in begun:
        run.clear()


@pytest.mark.slow
def test_two_runs_at_once_and_eight_kills_over_a_faulty_store_lose_nothing(job, begin, s3, faulty_s3, monkeypatch):
    run = job(1600, damaged=range(0, 1600, 40), s3=s3)
    proxy = faulty_s3(rate=0.08, seed=11)
    chance = random.Random(11)
    both = begin(run), begin(run)
    kinds = [*KINDS, *KINDS]
    chance.shuffle(kinds)
    for number, kind in enumerate(kinds):
        both[number % 2].kill(kind, chance)
        assert_only_committed_parts(run.output)
    for one in both:
        ended(one.driver)
    faults = proxy.counts["faults"] / proxy.counts["requests"]
    assert faults >= 0.05, f"{faults:.1%} of {proxy.counts['requests']:,} requests failed"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan.file-before", "plan.file-put", "plan.segment-before"])
def test_slower_of_two_planning_runs_uses_the_plan_of_the_other(job, begin, s3_or_none, point):
    run = job(24, damaged=(3,), s3=s3_or_none)
    run.points.arm(point, action="stop")
    slower = begin(run)
    wait_for(lambda: bool(run.points.taken(point)), slower.driver)
    ended(begin(run).driver)
    (segment,) = read_segments(run.output)
    run.points.release(point)
    ended(slower.driver)
    assert read_segments(run.output) == [segment]
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
def test_run_with_another_fingerprint_is_refused_during_the_first(job, begin, s3_or_none):
    run = job(24, damaged=(3,), s3=s3_or_none)
    run.points.arm("load.begin", action="stop")
    first = begin(run)
    wait_for(lambda: bool(run.points.taken("load.begin")), first.driver)
    second = start(run.options, None, "--top-k", "3")
    _, printed = second.communicate(timeout=SECONDS)
    assert second.returncode == 2
    assert "options.top_k was 5, this run has 3" in " ".join(printed.split())
    run.points.release("load.begin")
    ended(first.driver)
    assert_complete(run.output, run.good, run.bad)

"""Two runs of one command at once, each with a Ray cluster of its own, over one OUTPUT: double work at worst, never a
double row. They take minutes: `pytest -m slow tests/faults/test_two_runs.py`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.runtime.plan.plan_files import read_segments
from tests.faults.child_victims import kill_driver, kill_worker
from tests.faults.killed_runs import SECONDS, Job, Points, ended, start, wait_for
from tests.faults.whole_output import assert_nothing_but_parts, assert_whole

KINDS = ("driver", "load", "replica", "write")


class Run:
    """One of the two: its driver, which is started again whenever it was killed, and the points of its processes."""

    def __init__(self, job: Job, points: Points) -> None:
        self.job, self.points = job, points
        self.driver = start(job.options, points)

    def kill(self, kind: str, chance: random.Random) -> None:
        """Kill a worker of that stage, once there is one, or the driver; its workers may outlive it by a little."""
        time.sleep(chance.uniform(0, 3))
        if kind == "driver":
            kill_driver(self.driver, self.points, outlived=chance.uniform(0, 5))
            self.driver = start(self.job.options, self.points)
        else:
            deadline = time.monotonic() + SECONDS
            while not kill_worker(self.driver, self.points, kind, chance):
                assert time.monotonic() < deadline, f"no process of {kind} came by"
                assert self.driver.poll() is None, "the run ended before its kills: plan more pictures"

    def clear(self) -> None:
        """End what is left of it, whatever became of the test."""
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.communicate()
        self.points.clear()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[Job], Run]]:
    """`begin(job)`: a run of it, and called again, another one beside it. The first one has the job's points."""
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
        assert_nothing_but_parts(run.output)
    for one in both:
        ended(one.driver)
    faults = proxy.counts["faults"] / proxy.counts["requests"]
    assert faults >= 0.05, f"{faults:.1%} of {proxy.counts['requests']:,} requests failed"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert_whole(run.output, run.good, run.bad)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan.file-before", "plan.file-put", "plan.segment-before"])
def test_of_two_runs_that_plan_at_once_the_slower_one_uses_the_other_s_plan(job, begin, s3_or_none, point):
    run = job(24, damaged=(3,), s3=s3_or_none)
    run.points.arm(point, action="stop")
    slower, other = begin(run), begin(run)
    wait_for(lambda: bool(run.points.taken(point)), slower.driver)
    ended(other.driver)
    (segment,) = read_segments(run.output)
    run.points.release(point)
    ended(slower.driver)
    assert read_segments(run.output) == [segment]
    assert_whole(run.output, run.good, run.bad)


@pytest.mark.slow
def test_a_run_of_another_fingerprint_is_refused_while_the_first_is_at_work(job, begin, s3_or_none):
    run = job(24, damaged=(3,), s3=s3_or_none)
    run.points.arm("load.begin", action="stop")
    first = begin(run)
    wait_for(lambda: bool(run.points.taken("load.begin")), first.driver)
    second = start(run.options, None, "--top-k", "3")
    _, said = second.communicate(timeout=SECONDS)
    assert second.returncode == 2
    assert "options.top_k was 5, this run has 3" in " ".join(said.split())
    run.points.release("load.begin")
    ended(first.driver)
    assert_whole(run.output, run.good, run.bad)

"""Kill processes at every named fault point of plan, shard and run, on disk and in S3: each unit is predicted once.

Most of it takes minutes: `pytest -m slow tests/faults/test_crash_points.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from pipeline.runtime.records.crash_counts import read_crash_counts
from pipeline.runtime.records.run_file import read_run
from tests.faults.killed_runs import KILLED, SECONDS, Job, ended, start, wait_for
from tests.faults.output_invariants import assert_complete, rows

PLANNING = ("run.before", "run.claimed", "plan.begin", "plan.file-before", "plan.file-put")
PLANNING = (*PLANNING, "plan.segment-before", "plan.segment-put")
# If no receipts were written, as when the driver dies at receipts.before, the next driver reads footers, and writes
# quarantine parts again.
ENDING = ("receipts.before", "resume.footer-read", "quarantine.before", "quarantine.put", "receipts.put")
ENDING = (*ENDING, "manifest.before", "manifest.put")
COMMIT = ("write.begin", "commit.part-before", "commit.part-put", "commit.quarantine-put", "write.end")
WORK = ("load.begin", "load.unit", "load.end", "predict.begin", "predict.end", *COMMIT)
# On disk a file is written under a temporary name first, and then linked or moved to its own.
ON_DISK = (
    ("run.before", "store.written"),
    ("plan.file-before", "store.linked"),
    ("plan.segment-before", "store.written"),
    ("plan.segment-before", "store.linked"),
    ("receipts.before", "store.written"),
    ("receipts.before", "store.linked"),
    ("manifest.before", "store.written"),
)


@pytest.mark.slow
def test_driver_killed_between_a_part_and_its_quarantine_loses_nothing(job):
    run = job(8, damaged=(0, 2, 4, 6))  # one in each shard, so that each has a quarantine part to lose
    run.driver_killed_while_a_worker_is_at("commit.part-put", outlived=False)
    (part,) = set(run.output.keys("predictions/"))
    assert part.replace("predictions", "quarantine") not in run.output.keys("quarantine/")
    run.finishes()


@pytest.mark.slow
def test_workers_killed_in_load_predict_and_commit_lose_no_unit(job):
    worker_kills(job(12, damaged=(3, 4)), ("load.unit", "predict.end", "commit.part-put"))


@pytest.mark.slow
def test_driver_killed_at_each_of_its_steps_loses_nothing(job, s3_or_none):
    run = job(24, damaged=(0, 3), s3=s3_or_none)
    for point in (*PLANNING, *ENDING):
        run.driver_killed_at(point)
    run.finishes()


@pytest.mark.slow
@pytest.mark.parametrize(("after", "point"), ON_DISK)
def test_driver_killed_while_it_writes_a_file_loses_nothing(job, after, point):
    run = job(8, damaged=(0, 3))
    run.driver_killed_at(point, after)
    run.finishes()


@pytest.mark.slow
@pytest.mark.parametrize("outlived", [False, True])
def test_driver_killed_at_each_step_of_a_commit_loses_nothing(job, s3_or_none, outlived):
    run = job(20, damaged=range(0, 20, 2), s3=s3_or_none)
    for point in COMMIT:
        run.driver_killed_while_a_worker_is_at(point, outlived=outlived)
    run.finishes()


@pytest.mark.slow
def test_workers_killed_at_each_step_of_a_shard_lose_nothing(job, s3_or_none):
    worker_kills(job(24, damaged=range(0, 24, 2), s3=s3_or_none), WORK)


@pytest.mark.slow
def test_writers_killed_while_they_commit_a_part_lose_nothing(job):
    run = job(24, damaged=range(0, 24, 2))
    driver = start(run.options, run.points)
    for after, point in itertools.product(("commit.part-before", "commit.part-put"), ("store.written", "store.linked")):
        run.points.stopped(after, driver)
        run.points.arm(point)
        run.points.release(after)
        wait_for(lambda point=point: not (run.points.folder / point).exists(), driver)
    ended(driver)
    assert driver.pid not in run.points.taken("store.written") + run.points.taken("store.linked")
    assert len(run.points.taken("store.written")) == len(run.points.taken("store.linked")) == 2
    assert_complete(run.output, run.good, run.bad)


def worker_kills(run: Job, points: Iterable[str]) -> None:
    """Run with one worker killed at each point; assert that the run exits with 0 and its driver was not killed."""
    run.points.arm(*points)
    driver = start(run.options, run.points)
    ended(driver)
    killed = {point: run.points.taken(point) for point in points}
    assert all(len(pids) == 1 for pids in killed.values()), killed
    assert [driver.pid] not in killed.values()
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["load.begin", "predict.begin", "predict.end", "commit.part-before"])
def test_shard_killed_twice_is_retried_alone(job, point):
    run = job(4, damaged=(1,), shard_size=4)
    driver = start(run.options, run.points)
    run.points.kill_again(point, 2, driver)
    assert "1 shard crashed a worker; retrying one at a time" in ended(driver)
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["commit.part-put", "commit.quarantine-put", "write.end"])
def test_shard_killed_twice_after_its_commit_is_not_run_again(job, point):
    run = job(4, damaged=(1,), shard_size=4)
    driver = start(run.options, run.points)
    run.points.kill_again(point, 2, driver)
    assert "crashed a worker" not in ended(driver)
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
def test_units_that_succeed_after_a_crash_in_isolation_are_predicted(job):
    run = job(4, damaged=(1,), shard_size=4)
    driver = start(run.options, run.points)
    run.points.kill_again("load.begin", 2, driver)
    run.points.kill_again("predict.begin", 2, driver)
    assert "1 shard crashed a worker; retrying" in ended(driver)
    assert_complete(run.output, run.good, run.bad)


@pytest.mark.slow
def test_shard_that_crashes_in_every_pass_is_quarantined_and_predicted_in_a_retry(job):
    run = job(4, damaged=(1,), shard_size=4)
    driver = start(run.options, run.points)
    for point in ("load.begin", "load.end", "commit.part-before"):
        run.points.kill_again(point, 2, driver)
    assert "1 shard crashed a worker in every retry; quarantining the units" in ended(driver)
    assert_complete(run.output, [], [*run.good, *run.bad])
    ended(start(run.options, None, "--retry-quarantined"))
    assert sorted(row["id"] for row in rows(run.output, "predictions/")) == sorted(run.good)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "known"), [("attempts.before", False), ("attempts.put", True)])
def test_resume_counts_crashes_that_were_recorded(job, point, known):
    run = job(4, damaged=(1,), shard_size=4)
    run.points.arm(point)
    driver = start(run.options, run.points)
    run.points.kill_again("load.begin", 2, driver)
    _, printed = driver.communicate(timeout=SECONDS)
    assert driver.returncode == KILLED, printed
    assert run.points.taken(point) == [driver.pid]
    run.points.clear()
    assert read_crash_counts(run.output, read_run(run.output).run)[0] == known
    assert ("retrying them one at a time" in run.finishes()) is known

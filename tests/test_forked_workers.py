"""Workers of the tests' Ray cluster are forked, which saves most of the CPU time of the runs in the tests."""

from __future__ import annotations

import sys

import psutil
import pytest
import ray


def test_workers_are_forked_from_a_process_that_has_imported_torch(cluster):
    @ray.remote(num_cpus=0)
    def parent_and_torch() -> tuple[str, bool]:
        return " ".join(psutil.Process().parent().cmdline()), "torch" in sys.modules

    parent, has_torch = ray.get(parent_and_torch.remote())
    assert "tests.forked_workers.server" in parent
    assert has_torch


def test_killing_a_forked_worker_is_noticed_by_ray(cluster):
    @ray.remote(num_cpus=0, max_restarts=0)
    class Actor:
        def process(self) -> int:
            return psutil.Process().pid

    actor = Actor.remote()
    process = psutil.Process(ray.get(actor.process.remote()))
    process.kill()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.process.remote(), timeout=60)


def test_forked_worker_ends_with_its_actor(cluster):
    @ray.remote(num_cpus=0)
    class Actor:
        def process(self) -> int:
            return psutil.Process().pid

    actor = Actor.remote()
    process = psutil.Process(ray.get(actor.process.remote()))
    ray.kill(actor)
    process.wait(60)

"""CPUs and GPUs of each stage: load and write always have CPUs, and replicas that do not fit are refused."""

import pytest

from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.resources import Node, resolve_resources


def options(**values) -> RunOptions:
    return RunOptions(task="image-classification", input="in", output="out", checkpoint="c", **values)


@pytest.mark.parametrize(
    ("cpus", "nodes", "replicas"),
    [(1, 1, 1), (2, 1, 1), (2, 1, 2), (2, 1, 8), (2, 3, 4), (16, 1, 1), (16, 4, 2), (64, 1, 7)],
)
def test_load_and_write_always_have_cpus(cpus, nodes, replicas):
    found = [Node(cpus=cpus, gpus=0)] * nodes
    resources = resolve_resources(options(replicas=replicas), found)
    left = cpus * nodes - replicas * resources.replica_cpus
    assert left >= resources.load_cpus + resources.write_cpus
    assert resources.replica_cpus > 0
    assert 1 <= resources.threads <= cpus
    if nodes > 1:  # replicas of a node that dies are restarted on the others
        assert left - cpus >= resources.load_cpus + resources.write_cpus


def test_two_replicas_on_two_cpus():
    resources = resolve_resources(options(replicas=2), [Node(cpus=2, gpus=0)])
    assert (resources.replica_cpus, resources.load_cpus, resources.write_cpus) == (0.5, 0.5, 0.25)
    assert resources.threads == 1


def test_auto_device_is_cuda_if_the_cluster_has_a_gpu():
    resources = resolve_resources(options(replicas=2), [Node(cpus=8, gpus=0), Node(cpus=16, gpus=2)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cuda", "bfloat16", 1)
    assert resources.replica_cpus == 1
    resources = resolve_resources(options(), [Node(cpus=8, gpus=0)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cpu", "float32", 0)


def test_given_device_and_dtype_override_auto():
    resources = resolve_resources(options(device="cpu", dtype="bfloat16"), [Node(cpus=8, gpus=2)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cpu", "bfloat16", 0)


def test_replicas_that_do_not_fit_are_refused_with_the_clusters_resources():
    with pytest.raises(
        UsageError,
        match=r"replicas \(2\) do not fit on cuda: each needs 1 CPU and 2 GPUs.*8 CPUs and 3 GPUs, room for 1",
    ):
        resolve_resources(options(replicas=2, devices_per_replica=2), [Node(cpus=8, gpus=3)])
    with pytest.raises(
        UsageError, match=r"do not fit on cuda: each needs .*, but the cluster has 8 CPUs and 0 GPUs, room for 0"
    ):
        resolve_resources(options(device="cuda"), [Node(cpus=8, gpus=0)])
    with pytest.raises(UsageError, match="no node, room for 0"):
        resolve_resources(options(), [])


@pytest.mark.parametrize(
    ("gpus_of_nodes", "devices_per_replica", "replicas"),
    [([0], 1, 1), ([1], 1, 1), ([8], 1, 8), ([0, 4, 2], 1, 6), ([8, 8], 2, 8), ([3, 3], 2, 2), ([4], 4, 1)],
)
def test_auto_replicas_use_every_gpu_of_the_cluster(gpus_of_nodes, devices_per_replica, replicas):
    nodes = [Node(cpus=64, gpus=gpus) for gpus in gpus_of_nodes]
    resources = resolve_resources(options(replicas="auto", devices_per_replica=devices_per_replica), nodes)
    assert resources.replicas == replicas
    assert resources.replica_gpus == (devices_per_replica if sum(gpus_of_nodes) else 0)


def test_auto_replicas_is_one_on_cpus_even_if_the_cluster_has_gpus():
    resources = resolve_resources(options(replicas="auto", device="cpu"), [Node(cpus=64, gpus=8)] * 2)
    assert (resources.replicas, resources.replica_gpus) == (1, 0)


def test_auto_replicas_without_a_place_are_refused():
    with pytest.raises(
        UsageError, match=r"replicas \(1\) do not fit on cuda: each needs 1 CPU and 2 GPUs.*1 GPU, room for 0"
    ):
        resolve_resources(options(replicas="auto", devices_per_replica=2), [Node(cpus=8, gpus=1)])
    with pytest.raises(UsageError, match=r"replicas \(1\) do not fit on cuda.*8 CPUs and 0 GPUs, room for 0"):
        resolve_resources(options(replicas="auto", device="cuda"), [Node(cpus=8, gpus=0)])

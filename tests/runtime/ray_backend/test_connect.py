"""What a run takes of a cluster: load and write always have CPUs, and what can never be placed is refused."""

import subprocess
import sys

import pytest
import ray

from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.auth import require_token
from pipeline.runtime.ray_backend.resources import Node, resolve_resources


def options(**values) -> RunOptions:
    return RunOptions(task="image-classification", input="in", output="out", checkpoint="c", **values)


@pytest.mark.parametrize(
    ("cpus", "nodes", "replicas"),
    [(1, 1, 1), (2, 1, 1), (2, 1, 2), (2, 1, 8), (2, 3, 4), (16, 1, 1), (16, 4, 2), (64, 1, 7)],
)
def test_replicas_never_take_all_cpus(cpus, nodes, replicas):
    found = [Node(cpus=cpus, gpus=0)] * nodes
    resources = resolve_resources(options(replicas=replicas), found)
    left = cpus * nodes - replicas * resources.replica_cpus
    assert left >= resources.load_cpus + resources.write_cpus
    assert resources.replica_cpus > 0
    assert 1 <= resources.threads <= cpus
    if nodes > 1:  # those of a node that dies are started on the others
        assert left - cpus >= resources.load_cpus + resources.write_cpus


def test_two_replicas_of_two_cpus():
    resources = resolve_resources(options(replicas=2), [Node(cpus=2, gpus=0)])
    assert (resources.replica_cpus, resources.load_cpus, resources.write_cpus) == (0.5, 0.5, 0.25)
    assert resources.threads == 1


def test_auto_is_the_gpu_where_there_is_one():
    resources = resolve_resources(options(replicas=2), [Node(cpus=8, gpus=0), Node(cpus=16, gpus=2)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cuda", "bfloat16", 1)
    assert resources.replica_cpus == 1
    resources = resolve_resources(options(), [Node(cpus=8, gpus=0)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cpu", "float32", 0)


def test_what_is_asked_for_goes_before_auto():
    resources = resolve_resources(options(device="cpu", dtype="bfloat16"), [Node(cpus=8, gpus=2)])
    assert (resources.device, resources.dtype, resources.replica_gpus) == ("cpu", "bfloat16", 0)


def test_replicas_that_do_not_fit_are_refused_with_what_is_there():
    with pytest.raises(
        UsageError, match=r"replicas \(2\) of 1 CPUs and 2 GPUs each on cuda.*8 CPUs and 3 GPUs, room for 1"
    ):
        resolve_resources(options(replicas=2, devices_per_replica=2), [Node(cpus=8, gpus=3)])
    with pytest.raises(UsageError, match="on cuda do not fit: the cluster has 8 CPUs and 0 GPUs, room for 0"):
        resolve_resources(options(device="cuda"), [Node(cpus=8, gpus=0)])
    with pytest.raises(UsageError, match="no node, room for 0"):
        resolve_resources(options(), [])


def test_a_wrong_address_is_wrong_usage():
    code = "from pipeline.runtime.ray_backend.connect import ray_connection\nwith ray_connection('nonsense'): pass"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: address (nonsense) is not that of a Ray cluster" in ended.stderr


LISTENING = """
import psutil
from pipeline.runtime.ray_backend.connect import ray_connection
with ray_connection("local"):
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print(socket.laddr.ip)
"""


def test_a_cluster_of_its_own_listens_on_loopback_only():
    said = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, check=True).stdout
    assert len(said.split()) > 5
    assert set(said.split()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "ray://head:10001", "http://head.example:8265", "[fd00::7]:6379"])
def test_another_machine_is_not_talked_to_without_a_token(address, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="no token is set: set RAY_AUTH_MODE=token"):
        require_token(address)
    for said in ("token", "disabled"):
        monkeypatch.setenv("RAY_AUTH_MODE", said)
        require_token(address)


@pytest.mark.parametrize("address", [None, "auto", "local", "127.0.0.1:6379", "localhost:6379", "http://[::1]:8265"])
def test_this_machine_needs_none(address, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    require_token(address)


def test_without_an_address_another_program_s_cluster_is_left_alone(cluster):
    code = "import ray\nfrom pipeline.runtime.ray_backend.connect import ray_connection\n"
    code += "with ray_connection(None): print(ray.get_runtime_context().gcs_address)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert theirs[-1] != ray.get_runtime_context().gcs_address
    assert theirs[-1].startswith("127.0.0.1:")

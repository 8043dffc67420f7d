"""Connection to a Ray cluster: wrong addresses, loopback only, other programs' clusters."""

import subprocess
import sys

import ray


def test_wrong_address_is_a_usage_error():
    code = "from pipeline.runtime.ray_backend.connect import ray_connection\nwith ray_connection('nonsense'): pass"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: no Ray cluster answers at address (nonsense)" in ended.stderr


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


def test_new_local_cluster_listens_on_loopback_only():
    output = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, check=True).stdout
    assert len(output.split()) > 5
    assert set(output.split()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_cluster_of_another_program_is_not_joined_without_an_address(cluster):
    code = "import ray\nfrom pipeline.runtime.ray_backend.connect import ray_connection\n"
    code += "with ray_connection(None): print(ray.get_runtime_context().gcs_address)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert theirs[-1] != ray.get_runtime_context().gcs_address
    assert theirs[-1].startswith("127.0.0.1:")

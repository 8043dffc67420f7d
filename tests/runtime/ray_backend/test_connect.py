"""Connection to a Ray cluster: wrong addresses, loopback only, other programs' clusters."""

import subprocess
import sys

import pytest
import ray


def test_wrong_address_is_a_usage_error():
    code = "from pipeline.runtime.ray_backend.connect import ray_connection\nwith ray_connection('nonsense'): pass"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: no Ray cluster answers at address (nonsense)" in ended.stderr


STARTED = """
import psutil, ray
from pipeline.runtime.ray_backend.connect import ray_connection
with ray_connection(None):
    print(ray.get_runtime_context().gcs_address)
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print(socket.laddr.ip)
"""


def test_without_an_address_a_new_cluster_is_started_on_loopback_though_another_program_has_one(cluster):
    ended = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    address, *listening = ended.stdout.split()
    assert address != ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    assert len(listening) > 5
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


INTERRUPTED = """
import os, psutil, signal, threading, time
from pipeline.runtime.ray_backend.connect import ray_connection

def stop():
    while not psutil.Process().children():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop, daemon=True).start()
with ray_connection("local"):
    print("connected")
"""


@pytest.mark.slow
def test_sigterm_while_ray_starts_is_reported_like_ctrl_c():
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt: stopped by SIGTERM; the same command resumes" in ended.stderr
    assert ended.stdout == ""

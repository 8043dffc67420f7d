"""A replica on a draining node. Nodes are really drained in tests/faults/test_lost_nodes.py."""

from __future__ import annotations

import subprocess
import sys

from pipeline.runtime.ray_backend.drain import node_is_drained

# One call is inside when the head says that the node is to go, and another one comes: it never gets in.
PROGRAM = """
import threading
from pipeline.runtime.ray_backend import drain

draining, waits = threading.Event(), threading.Event()
drain.POLL_SECONDS, drain.FLUSH_SECONDS = -1.0, 0.0

def drained():
    if draining.is_set():
        waits.set()
    return draining.is_set()

drain.node_is_drained = drained
gate = drain.DrainGate()

def second():
    with gate.enter():
        print("second", flush=True)

with gate.enter():
    draining.set()
    other = threading.Thread(target=second)
    other.start()
    assert waits.wait(30)
    print("first", flush=True)
other.join(30)
"""


def test_drained_replica_finishes_its_call_and_the_next_call_runs_elsewhere():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("first\n", "", 1)


def test_node_without_a_drain_request_is_not_drained(cluster):
    assert not node_is_drained()

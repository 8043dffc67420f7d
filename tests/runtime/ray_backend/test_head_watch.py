"""A head that dies stops the run, with a sentence, before Ray ends the process without one."""

from __future__ import annotations

import signal
import socket
import time
from types import SimpleNamespace

import pytest
import ray

from pipeline.runtime.ray_backend import head_watch
from pipeline.runtime.ray_backend.cluster_address import ClusterAddress
from pipeline.runtime.ray_backend.head_watch import watched_head
from pipeline.runtime.signals import Stopped, stop_on_signals

CLUSTER = ClusterAddress(address="10.0.0.1:6379", source="address (10.0.0.1:6379)", remedy="")


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The socket of a head, whose death is noticed after a tenth of a second."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
    monkeypatch.setattr(head_watch, "PAUSE_SECONDS", 0.05)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    return listening


def test_death_of_the_head_stops_the_run(listening: socket.socket) -> None:
    expected = r"^the head of the Ray cluster at address \(10.0.0.1:6379\) died or cannot be reached; the same command"
    with pytest.raises(Stopped, match=expected), stop_on_signals(), watched_head(CLUSTER):  # noqa: PT012
        time.sleep(0.3)
        listening.close()
        time.sleep(10)


def test_later_signals_are_reported_as_such(listening: socket.socket) -> None:
    listening.close()
    with pytest.raises(Stopped), stop_on_signals(), watched_head(CLUSTER):
        time.sleep(10)
    with pytest.raises(Stopped, match=r"^stopped by SIGINT; "), stop_on_signals():
        signal.raise_signal(signal.SIGINT)


def test_nothing_is_stopped_after_the_run_or_by_a_head_that_lives(listening: socket.socket) -> None:
    with stop_on_signals():
        with watched_head(CLUSTER):
            time.sleep(0.3)
        listening.close()
        time.sleep(0.3)


def test_local_clusters_and_proxies_are_not_watched(listening: socket.socket) -> None:
    listening.close()
    proxy = ClusterAddress(address="ray://10.0.0.1:10001", source="", remedy="")
    with stop_on_signals(), watched_head(None), watched_head(proxy):
        time.sleep(0.3)

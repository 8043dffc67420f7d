"""Fork the workers of the tests' Ray cluster from a process that has already imported torch and transformers.

A worker takes four CPU seconds to start, three of them for imports, and nearly every run starts at least one. Only the
cluster of the `cluster` fixture uses the server: runs with their own cluster start their workers as users' runs do.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.forked_workers import client

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def worker_server() -> Iterator[Mapping[str, str]]:
    """Start the server for the block, and yield the environment variables with which a cluster's head finds it."""
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        address = str(Path(folder, "socket"))
        command = [sys.executable, "-m", "tests.forked_workers.server", address]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": REPOSITORY}
        with subprocess.Popen(command, **streams) as server:
            assert server.stdout.readline() == b"ready\n"
            yield {client.VARIABLE: address}
            # Leaving the block closes its standard input, which ends it.


def serve(address: str) -> None:
    """Fork a worker for each request, until standard input is closed."""
    import pandas  # noqa: F401
    import transformers

    import pipeline.runtime.stages.predict
    import pipeline.runtime.stages.write  # noqa: F401

    transformers.PerceiverConfig  # noqa: B018  which imports its module
    assert "ray" not in sys.modules, "Ray reads the environment of its process when it is imported"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps workers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            while not data.endswith(b"\n"):
                data += connection.recv(1 << 20)
            if os.fork() == 0:
                listener.close()
                become_worker(connection, json.loads(data), streams)
            connection.close()
            for stream in streams:
                os.close(stream)


def become_worker(connection: socket.socket, request: Mapping[str, Any], streams: list[int]) -> None:
    """Run Ray's worker script in this process with the requested arguments, and exit."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    threading.Thread(target=_die_with_peer, args=(connection,), daemon=True).start()
    sys.argv[:] = request["arguments"]
    code: Any = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _die_with_peer(connection: socket.socket) -> None:
    """Kill this process once the setup script has ended, which Ray kills if it wants the worker to end."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(sys.argv[1])

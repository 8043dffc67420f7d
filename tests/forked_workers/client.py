"""Started by Ray in place of its own setup script: asks `server` for a forked worker, and exits when that ends.

Ray leaves out a setup script called `setup_worker.py` if there is nothing to set up, so this one has another name. It
imports as little as possible, because it runs once per worker.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys

VARIABLE = "PERCEIVER_TEST_WORKERS"  # path of the server's socket


def request_worker(arguments: list[str]) -> None:
    """Have a worker forked with the environment and streams of this process; return when it ends."""
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[VARIABLE])
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        connection.recv(1)  # returns when the worker, which sends nothing, closes its end


if __name__ == "__main__":
    worker_arguments = [argument for argument in sys.argv[1:] if argument != "--language=PYTHON"]
    if any(argument.startswith("--serialized-runtime-env-context") for argument in worker_arguments):
        runpy.run_module("ray._private.workers.setup_worker", run_name="__main__")  # a worker with an environment
    else:
        request_worker(worker_arguments)

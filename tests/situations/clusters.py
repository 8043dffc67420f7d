"""Ray clusters that are not there, that cannot do what they were told of, or whose head dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from tests.faults.killed_runs import Points, wait_for
from tests.situations.situation import SECONDS, Ended, Situation, World
from tests.situations.surroundings import runs

ANSWER_SECONDS = 30  # in which an address where nobody answers is reported
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}  # of the clusters here, which are on loopback


def nobody_answers(*more: str, variable: str = "", file: str = "", is_silent: bool = False) -> Callable[[World], Ended]:
    """Run with the address of a port, as NOBODY, in an option, RAY_ADDRESS, or Ray's file of the last cluster.

    Nothing listens at the port or, if it is silent, a program that never answers.
    """

    def act(world: World) -> Ended:
        with socket.socket() as port:
            port.bind(("", 0))  # also of the address by which Ray replaces that of loopback
            address = f"127.0.0.1:{port.getsockname()[1]}"
            if is_silent:
                port.listen()
            recorded = world.folder / "tmp/ray/ray_current_cluster"
            recorded.parent.mkdir(parents=True)
            if file:
                recorded.write_text(file.replace("NOBODY", address))
            variables = {"RAY_TMPDIR": str(world.folder / "tmp"), "RAY_ADDRESS": variable.replace("NOBODY", address)}
            began = time.monotonic()
            act = runs(*(each.replace("NOBODY", address) for each in more), environment=variables)
            ended = act(world)
            assert time.monotonic() - began < ANSWER_SECONDS
            return Ended(ended.code, ended.printed.replace(address, "NOBODY"))

    return act


@contextmanager
def head(*flags: str, environment: Mapping[str, str] = {}) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the address of a cluster on this machine, and the process whose children are those of its head."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = _unused_port()
        command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--include-dashboard=false"]
        command += [f"--port={port}", "--num-cpus=2", *flags]
        variables = os.environ | NO_TOKEN | {"RAY_TMPDIR": folder} | dict(environment)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=variables, **quiet) as started:
            parent = psutil.Process(started.pid)
            try:
                wait_for(lambda: any("raylet" in child.name() for child in parent.children()), started)
                yield f"127.0.0.1:{port}", parent
            finally:
                kill(parent)


def _unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def kill(parent: psutil.Process) -> None:
    """Kill a process and all that it started, as if the machine were lost."""
    if parent.is_running():
        for process in [*parent.children(recursive=True), parent]:
            process.kill()


def runs_on_a_gpu_that_does_not_work(world: World) -> Ended:
    """Run on a cluster that was told of a GPU which torch cannot use."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    with head("--num-gpus=1") as (address, _):
        return runs("--address", address, environment=NO_TOKEN)(world)


def runs_while_the_head_dies(world: World) -> Ended:
    """Kill the head of the cluster while a shard is written."""
    points = Points(world.folder / "points")
    points.arm("write.begin", action="stop")
    world.write_images(world.input, range(4))
    run = ["run", "image-classification", str(world.input), str(world.output), "--checkpoint", str(world.checkpoint)]
    with (
        head(environment=points.environment) as (address, parent),
        world.started(*run, "--address", address, environment=NO_TOKEN) as driver,
    ):
        wait_for(lambda: bool(points.taken("write.begin")) or driver.poll() is not None)
        kill(parent)
        printed, _ = driver.communicate(timeout=SECONDS)
    points.clear()
    for marker in world.output.glob("_run/drivers/*"):  # Ray may keep the driver from deleting it, as a kill does
        marker.unlink()
    return Ended(driver.returncode, " ".join(printed.split()))


START = "start the cluster"
DEAD = {
    "--address": (
        nobody_answers("--address", "NOBODY"),
        f"no Ray cluster answers at address (NOBODY): Connection refused; {START} or correct the address; `local`",
    ),
    "--address of Ray's client": (
        nobody_answers("--address", "ray://NOBODY"),
        f"no Ray cluster answers at address (ray://NOBODY): Connection refused; {START} or correct the address",
    ),
    "--address, where a program never answers": (
        nobody_answers("--address", "NOBODY", is_silent=True),
        f"no Ray cluster answers at address (NOBODY): timed out; {START} or correct the address",
    ),
    "RAY_ADDRESS": (
        nobody_answers(variable="NOBODY"),
        "no Ray cluster answers at the address in the environment variable RAY_ADDRESS (NOBODY): Connection refused; "
        f"{START}, or correct or unset the variable",
    ),
    "Ray's file of the last cluster": (
        nobody_answers(file="NOBODY"),
        "no Ray cluster answers at NOBODY, the address of the last cluster in WORLD/tmp/ray/ray_current_cluster: "
        f"Connection refused; {START} again, or delete the file, as `ray stop` does",
    ),
}
CLUSTERS = {
    f"nobody answers at {name}": Situation(act=act, code=2, says=f"error: {words}", is_slow=True)
    for name, (act, words) in DEAD.items()
}
CLUSTERS |= {
    "GPU that torch cannot use": Situation(
        act=runs_on_a_gpu_that_does_not_work,
        code=2,
        says="error: device (cuda) cannot be used on … give cpu, or install",
        is_slow=True,
    ),
    "head that dies during a run": Situation(
        act=runs_while_the_head_dies,
        code=1,
        says="error: the head of the Ray cluster at address (127.0.0.1:…) died or cannot be reached; the same command",
        is_slow=True,
    ),
}

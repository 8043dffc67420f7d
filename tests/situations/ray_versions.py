"""Releases of Ray that cannot be used: one that is too old, and a cluster with another one than this process."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.situations.situation import Ended, Situation, World

# A cluster that was started with Ray 2.59.0, by its own account. It ends when standard input is closed.
CLUSTER = """
import sys, ray
ray.__version__ = "2.59.0"
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
OPEN = {"RAY_AUTH_MODE": "disabled"}
PACKAGE = "Metadata-Version: 2.1\nName: ray\nVersion: {release}\n"


def too_old(world: World) -> Ended:
    """Run where an older release of Ray is installed; neither INPUT nor a checkpoint is there."""
    installed = world.folder / "packages/ray-2.57.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(PACKAGE.format(release="2.57.1"))
    nothing = ("run", "image-classification", "/no/input", str(world.output), "--checkpoint", "/no/model")
    return world.process(*nothing, environment={"PYTHONPATH": str(installed.parent)})


def other_than_the_cluster(world: World) -> Ended:
    """Run on a cluster that has another release."""
    world.write_images(world.input, range(2))
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], env=os.environ | OPEN, **streams) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        places = str(world.input), str(world.output), "--checkpoint", str(world.checkpoint)
        return world.process("run", "image-classification", *places, "--address", address, environment=OPEN)


RAY_VERSIONS = {
    "an older Ray than any that works": Situation(
        act=too_old,
        code=2,
        says="error: Ray 2.57.1 is installed, but this software needs Ray 2.58 or later: install the same release here",
    ),
    "a cluster with another Ray": Situation(
        act=other_than_the_cluster,
        code=2,
        says="error: the cluster at address (…) runs Ray 2.59.0 with Python … but this process runs Ray … "
        "install the versions of the cluster here",
        is_slow=True,
    ),
}

"""Machines that lack what a run takes for granted: folders that can be written, space, memory, a network, a cluster."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.runtime.ray_backend.session_folder import MARK, MAX_PARENT_PATH
from tests.situations.situation import Ended, Situation, World

DONE = "done: 4 rows and 0 quarantined, of 4 units"
PROJECT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
WITHOUT_CAPABILITIES = "setpriv --bounding-set=-all --inh-caps=-all -- " if IS_ROOT else ""  # so permissions bind root
UNSHARE = "unshare " if IS_ROOT else "unshare --map-root-user "


def runs(
    *more: str,
    checkpoint: str = "MODEL",
    shell: str = '"$@"',
    arrange: Callable[[World], object] = lambda _: None,
    environment: Mapping[str, str] = {},
    has_own_tmpdir: bool = False,
) -> Callable[[World], Ended]:
    """Run over four images on a local cluster in surroundings. WORLD and MODEL are filled in.

    shell: the command line of bash in which "$@" is the run. environment: variables. has_own_tmpdir: they say where the
    files of the cluster are, which are otherwise in a folder that must be empty afterwards.
    """

    def act(world: World) -> Ended:
        world.write_images(world.input, range(4))
        arrange(world)
        named = {"WORLD": str(world.folder), "MODEL": str(world.checkpoint)}
        model = _fill(checkpoint, named)
        flags = ("--checkpoint", model, "--shard-size", "2", "--no-report", *(_fill(each, named) for each in more))
        with files_of_clusters(None if has_own_tmpdir else "/tmp") as variables:
            variables |= {name: _fill(value, named) for name, value in environment.items()}
            return world.process(
                "run",
                "image-classification",
                str(world.input),
                str(world.output),
                *flags,
                environment=variables,
                shell=_fill(shell, named),
            )

    return act


def _fill(text: str, named: Mapping[str, str]) -> str:
    for name, value in named.items():
        text = text.replace(name, value)
    return text


@contextmanager
def files_of_clusters(parent: str | None) -> Iterator[dict[str, str]]:
    """Yield variables with which a local cluster has its files in a new folder, and assert that they are deleted.

    None as `parent`: without variables; the files may then be in /tmp, next to those of others.
    """
    if parent is None:
        before = set(_abandoned())
        yield {}
        assert set(_abandoned()) <= before
        return
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield {"RAY_TMPDIR": folder}
        assert list(Path(folder).iterdir()) == []


def _abandoned() -> Iterator[Path]:
    """Yield the folders of local clusters in /tmp whose drivers have ended."""
    for mark in Path("/tmp").glob(f"*/{MARK}"):
        lock = os.open(mark.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield mark.parent
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def mounted(*commands: str, network: bool = True) -> str:
    """Return a command line of bash that runs "$@" with mounts of its own, or skip the test if that is not allowed."""
    options = "--mount" if network else "--mount --net"
    setup = " && ".join((*commands, 'exec "$@"') if network else ("ip link set lo up", *commands, 'exec "$@"'))
    return f'{UNSHARE}{options} bash -c {_quoted(setup)} bash "$@"'


def _quoted(text: str) -> str:
    assert "'" not in text
    return f"'{text}'"


def needs_namespaces(act: Callable[[World], Ended]) -> Callable[[World], Ended]:
    """Skip the situation where this user may not have mounts and networks of its own, as in many containers."""

    def act_or_skip(world: World) -> Ended:
        command = f"{UNSHARE}--mount --net bash -c 'ip link set lo up && mount -t tmpfs tmpfs /mnt'"
        tried = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            pytest.skip(f"mounts and networks of its own are refused here: {tried.stderr.strip()}")
        return act(world)

    return act_or_skip


def read_only(folder: Path) -> str:
    """Return a command after which a folder cannot be written."""
    return f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"


def small_disk(folder: str, size: str) -> str:
    """Return a command that mounts a small empty disk on a folder."""
    return f"mkdir -p {folder} && mount -t tmpfs -o size={size} tmpfs {folder}"


def file_in_place_of_folders(world: World) -> None:
    (world.folder / "file").touch()


def read_only_folders(world: World) -> None:
    (world.folder / "home").mkdir(mode=0o555)


def long_folder(world: World) -> None:
    (world.folder / ("x" * MAX_PARENT_PATH)).mkdir()


CACHES = ("HOME", "PERCEIVER_CACHE", "HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")
LOCAL = {
    "long TMPDIR": runs(
        arrange=long_folder, environment={"TMPDIR": f"WORLD/{'x' * MAX_PARENT_PATH}"}, has_own_tmpdir=True
    ),
    "TMPDIR that cannot be written": runs(
        arrange=file_in_place_of_folders, environment={"TMPDIR": "WORLD/file/tmp"}, has_own_tmpdir=True
    ),
    "HOME and caches that cannot be written": runs(
        arrange=file_in_place_of_folders, environment=dict.fromkeys(CACHES, "WORLD/file/cache")
    ),
    "user who may not write HOME": runs(
        shell=f'{WITHOUT_CAPABILITIES}"$@"', arrange=read_only_folders, environment={"HOME": "WORLD/home"}
    ),
    "small /dev/shm": needs_namespaces(runs(shell=mounted("mount -t tmpfs -o size=16m tmpfs /dev/shm"))),
    "limit of 256 open files": runs(shell='ulimit -n 256; "$@"'),
    "no network": needs_namespaces(runs(shell=mounted(network=False))),
    "LC_ALL=C": runs(shell='env -u LANG -u LC_CTYPE -u PYTHONUTF8 LC_ALL=C "$@"'),
    "read-only install": needs_namespaces(
        runs(shell=mounted(*(read_only(folder) for folder in (PROJECT, Path(sys.prefix)))))
    ),
}
SURROUNDINGS = {name: Situation(act=act, code=0, says=DONE, is_slow=True) for name, act in LOCAL.items()}
SURROUNDINGS |= {
    "full disk for the files of the cluster": Situation(
        act=needs_namespaces(
            runs(shell=mounted(small_disk("WORLD/full", "1m")), environment={"RAY_TMPDIR": "WORLD/full"})
        ),
        code=2,
        says="error: a Ray cluster cannot keep its files in WORLD/full: set RAY_TMPDIR to a folder",
        is_slow=True,
    ),
    "disk of OUTPUT that is full at the start": Situation(
        act=needs_namespaces(runs(shell=mounted(small_disk("WORLD/out", "4k"), "echo > WORLD/out/used"))),
        code=2,
        says="error: …",
        is_slow=True,
    ),
    "disk of OUTPUT that becomes full": Situation(
        act=needs_namespaces(runs(shell=mounted(small_disk("WORLD/out", "44k")))),
        code=1,
        says="No space left on device",
        is_slow=True,
    ),
    "no network, and a checkpoint of the Hub": Situation(
        act=needs_namespaces(runs(checkpoint="someone/model", shell=mounted(network=False))),
        code=2,
        says="error: checkpoint someone/model is not a local folder; the download from the Hub failed too: …",
        is_slow=True,
    ),
    "cache that cannot be written, and a checkpoint of the Hub": Situation(
        act=runs(
            checkpoint="someone/model", arrange=file_in_place_of_folders, environment={"HF_HOME": "WORLD/file/cache"}
        ),
        code=2,
        says="error: checkpoint someone/model is not a local folder; the download from the Hub failed too: …",
        is_slow=True,
    ),
}

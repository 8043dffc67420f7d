"""The folder of a local cluster: where it is, and that nothing is left in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.runtime.errors import UsageError
from pipeline.runtime.ray_backend.session_folder import MARK, MAX_PARENT_PATH, session_folder

DRIVER = """
from pipeline.runtime.ray_backend.session_folder import session_folder
with session_folder() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path, RAY_TMPDIR of all that is started."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_folder_is_deleted_with_all_in_it(parent: Path) -> None:
    with session_folder() as folder:
        assert Path(folder).parent == parent
        (Path(folder) / "session/logs").mkdir(parents=True)
    assert list(parent.iterdir()) == []


def test_next_run_deletes_what_a_killed_one_left_and_nothing_else(parent: Path) -> None:
    of_others = parent / "ray-0a1b/session"
    of_others.mkdir(parents=True)
    command = [sys.executable, "-c", DRIVER]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as killed, subprocess.Popen(command, **streams) as alive:
        left, used = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait()
        assert (left / MARK).exists()
        with session_folder():
            assert not left.exists()
            assert (used / MARK).exists()
            assert of_others.exists()
        alive.communicate("\n")
    assert sorted(parent.iterdir()) == [of_others.parent]


def test_long_tmpdir_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * MAX_PARENT_PATH)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    with session_folder() as folder:
        assert Path(folder).parent == Path("/tmp")


@pytest.mark.parametrize("name", ["x" * MAX_PARENT_PATH, "missing"])
def test_ray_tmpdir_that_cannot_be_used_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{name}")
    with (
        pytest.raises(UsageError, match=rf"cannot keep its files in /tmp/{name}: set RAY_TMPDIR to a folder .* 34 "),
        session_folder(),
    ):
        pass


def test_full_disk_is_passed_over_or_named(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 if path == str(parent) else 10**9))
    with (
        pytest.raises(UsageError, match=rf"keep its files in {parent}: .* with 4 MB of free space"),
        session_folder(),
    ):
        pass
    monkeypatch.setenv("TMPDIR", str(parent))
    monkeypatch.delenv("RAY_TMPDIR")
    with session_folder() as folder:
        assert Path(folder).parent == Path("/tmp")

"""What is no regular file is refused at once, whatever took the place of a file."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.storage import LeaveOut, LeftOut, Store
from pipeline.storage import local_folder as module
from pipeline.storage.errors import NotRegular
from pipeline.storage.local_folder import LocalFolder


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
}


@pytest.fixture(params=KINDS)
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, str]:
    """A folder whose `file` is now something else, and what it is."""
    KINDS[request.param](tmp_path / "file")
    return Store(str(tmp_path)), request.param


@pytest.mark.parametrize(
    "access",
    [
        lambda store: store.read("file"),
        lambda store: store.read("file", version="7-0a", size=7),
        lambda store: store.read_start("file", 3),
        lambda store: store.open("file"),
        lambda store: store.open("file", version="7-0a"),
        lambda store: store.size("file"),
        lambda store: store.entry("file"),
        lambda store: store.stamp("file"),
    ],
)
def test_irregular_file_is_refused_at_once(irregular: tuple[Store, str], access: Callable[[Store], object]) -> None:
    store, kind = irregular
    began = time.monotonic()
    with pytest.raises(NotRegular, match=f"^{store.uri}/file is {kind}: only regular files are read$"):
        access(store)
    assert time.monotonic() - began < 1


def test_pipe_that_takes_the_place_of_a_listed_file_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").write_bytes(b"content")
    list_files = module.list_files

    def replaced(root: str, prefix: str, leave_out: LeaveOut) -> Iterator[tuple[str, str]]:
        for key, path in list_files(root, prefix, leave_out):
            if key == "a":
                Path(path).unlink()
                os.mkfifo(path)
            yield key, path

    monkeypatch.setattr(module, "list_files", replaced)
    left_out = LeftOut()
    assert [entry.key for entry in LocalFolder(str(tmp_path)).entries("", left_out.add)] == ["b"]
    assert list(left_out.entries()) == [("a", "not a regular file")]

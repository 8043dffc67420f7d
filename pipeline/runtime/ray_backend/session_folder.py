"""Folder of the files of a local cluster: short enough for its sockets, and never left behind."""

import fcntl
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.formatting import size
from pipeline.runtime.errors import UsageError

VARIABLE = "RAY_TMPDIR"
PREFIX = "ray-"  # short, and so are the four digits after it
MAX_SOCKET_PATH = 107  # bytes, on Linux
MAX_PARENT_PATH = MAX_SOCKET_PATH - len("/ray-1234/session_2026-11-30_03-34-10_675220_4194304/sockets/plasma_store")
MARK = "made-by-perceiver"  # a file that tells these folders from those of other programs
MIN_FREE_BYTES = 4_000_000  # Ray's logs of a short run; without them Ray waits for half a minute and fails
_ATTEMPTS = 100
_DELETE_SECONDS = 3.0  # during which processes of the cluster may still write


@contextmanager
def session_folder() -> Iterator[str]:
    """Yield an empty folder for Ray's logs, sockets and spilled objects, and delete it after the block.

    It is in RAY_TMPDIR, or else in the first of TMPDIR, /tmp and /var/tmp that can be written, has space, and whose
    path is short enough; UsageError if none is. Folders that killed runs of this user left there are deleted.
    """
    folder = _make_folder()
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system unlocks it when this process ends, however it ends
        (folder / MARK).touch()
        _delete_abandoned(folder.parent)
        yield str(folder)
    finally:
        _delete(folder)
        os.close(lock)


def _make_folder() -> Path:
    named = os.environ.get(VARIABLE)
    parents = [named] if named else [*filter(None, [os.environ.get("TMPDIR")]), "/tmp", "/var/tmp"]  # noqa: S108
    for parent in parents:
        path = os.path.abspath(parent)  # noqa: PTH100 - keeps symbolic links, which may be what makes a path short
        with suppress(OSError):
            if len(os.fsencode(path)) <= MAX_PARENT_PATH and shutil.disk_usage(path).free >= MIN_FREE_BYTES:
                return _make_unique_folder(Path(path))
    raise UsageError(
        f"a Ray cluster cannot keep its files in {' or '.join(parents)}: set {VARIABLE} to a folder that exists, that "
        f"this user can write, with {size(MIN_FREE_BYTES)} of free space, and with a path of at most {MAX_PARENT_PATH} "
        "bytes, as Ray's sockets are in it"
    )


def _make_unique_folder(parent: Path) -> Path:
    """Make a folder with a shorter name than `tempfile` gives."""
    for _ in range(_ATTEMPTS):
        folder = parent / f"{PREFIX}{secrets.token_hex(2)}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise FileExistsError(f"{parent} is full of folders {PREFIX}*")


def _delete_abandoned(parent: Path) -> None:
    """Delete the folders that drivers of this user left when they were killed."""
    for mark in parent.glob(f"{PREFIX}*/{MARK}"):
        with suppress(OSError):  # deleted meanwhile, or of another user
            if mark.lstat().st_uid == os.getuid() and not _is_locked(mark.parent):
                shutil.rmtree(mark.parent, ignore_errors=True)


def _is_locked(folder: Path) -> bool:
    """Return whether a driver uses a folder."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _delete(folder: Path) -> None:
    """Delete a folder, and end what still runs of its cluster: an agent that just starts makes the folder again."""
    deadline = time.monotonic() + _DELETE_SECONDS
    _end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
        _end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_processes(folder: Path) -> None:
    """Kill the processes that were given a path in the folder as the value of an option, as Ray does. Only on Linux."""
    option = re.compile(rb"(?:^|\0)--[\w-]+=" + re.escape(os.fsencode(folder)) + rb"/")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile, or of another user
            if option.search(path.read_bytes()):
                os.kill(int(path.parent.name), signal.SIGKILL)

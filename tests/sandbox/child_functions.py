"""Functions that tests run in child processes: a module of its own, so that these do not import pytest."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.sandbox import Started
from pipeline.storage import StorageError
from pipeline.storage.errors import translated_errors


def echo(*values: Any) -> Iterator[Any]:
    yield from values


def process_ids(count: int) -> Iterator[int]:
    for _ in range(count):
        yield os.getpid()


def noted(folder: Path, count: int) -> Iterator[int]:
    """Yield numbers; write the current one to a file, and create another file at the end."""
    try:
        for number in range(count):
            (folder / "made").write_text(str(number))
            yield number
    finally:
        (folder / "closed").touch()


def meet(folder: Path, name: str, others: int) -> Iterator[str]:
    """Yield the name once so many other calls run too."""
    (folder / name).touch()
    while len(list(folder.iterdir())) <= others:
        time.sleep(0.01)
    yield name


def sleep(seconds: float, *, hold: bool = False) -> Iterator[str]:
    """Sleep, with `hold` in a way that blocks all other threads."""
    if hold:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    else:
        time.sleep(seconds)
    yield "slept"


def sleep_in_storage(seconds: float, times: int) -> Iterator[str]:
    for _ in range(times):
        with translated_errors("s3://bucket", "listing"), translated_errors("s3://bucket/key", "reading"):
            time.sleep(seconds)
    yield "slept"


def fail_in_storage() -> Iterator[str]:
    with translated_errors("s3://bucket/key", "reading"):
        raise TimeoutError("no answer")
    yield "never"


def die(how: str) -> Iterator[str]:
    """Yield one result and crash."""
    yield "alive"
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        sys.stderr.write("free(): invalid pointer, token=abcdefghijkl\n")
        sys.stderr.flush()
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "close":
        os.closerange(3, 100)
        time.sleep(60)
    else:
        os._exit(int(how))


def allocate(size: int) -> Iterator[int]:
    yield np.ones(size, np.uint8).nbytes


def allocate_from(size: int, first: int) -> Iterator[int]:
    yield from list(allocate(size))[first:]


def work_on(folder: Path, names: Sequence[str]) -> Iterator[Started | str]:
    """Name each item and give it back, unless its name says otherwise; a file counts each attempt."""
    for name in names:
        yield Started(name)
        attempts = len(list(folder.glob(f"{name}-*")))
        (folder / f"{name}-{attempts}").touch()
        if name == "crash" or (name == "crash once" and not attempts):
            os.abort()
        if name == "error":
            raise ValueError(f"cannot work on {name}")
        yield name


def chatter() -> Iterator[str]:
    print("chatter")
    os.write(1, b"chatter\n")
    os.write(2, b"chatter\n" * (1 << 17))  # more than a pipe holds
    yield "done"


class NeedsTwo(Exception):  # noqa: N818
    """Can be pickled, but not unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail(how: str) -> Iterator[str]:
    yield "begun"
    if how == "storage":
        raise StorageError("503", transient=True)
    if how == "two":
        raise NeedsTwo("this", "that")
    if how == "lambda":
        error = ValueError("with what cannot be pickled")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error
    if how == "exit":
        sys.exit(3)
    if how == "result":
        yield threading.Lock()  # type: ignore[misc]
    raise EOFError("the file's end")

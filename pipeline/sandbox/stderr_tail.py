"""The end of a child's standard error, of which nothing reaches the console."""

from __future__ import annotations

import os
import threading
from typing import IO

from pipeline.storage import redact

_TAIL_BYTES = 4096
_LINE_CHARACTERS = 200
_DRAIN_SECONDS = 1.0  # to read the rest after the process has ended


class StderrTail:
    """Reads a pipe to its end in a thread and keeps the last bytes."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._tail = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), name="child-stderr", daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """Return the last line of a process that has ended, redacted and cut to 200 characters."""
        self._thread.join(_DRAIN_SECONDS)  # a grandchild may hold the pipe open
        lines = redact(self._tail.decode(errors="replace")).split("\n")
        texts = [line.strip() for line in lines if line.strip()]
        return texts[-1][:_LINE_CHARACTERS] if texts else ""

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _TAIL_BYTES):
                self._tail = (self._tail + data)[-_TAIL_BYTES:]

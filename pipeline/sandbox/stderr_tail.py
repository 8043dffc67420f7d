"""What a child writes to its standard error: nothing of it reaches the console, of the last of it something is kept."""

from __future__ import annotations

import os
import threading
from typing import IO

from pipeline.storage import redact

_KEPT = 4096  # bytes
_SHOWN = 200  # characters
_ENDING = 1.0  # seconds that a process which has ended takes to say its last


class StderrTail:
    """Reads a pipe to its end, however much is written to it."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), name="child-stderr", daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """The last line of a process that has ended, without secrets and cut to read well."""
        self._thread.join(_ENDING)  # a grandchild may hold the pipe open
        lines = redact(self._kept.decode(errors="replace")).split("\n")
        told = [line.strip() for line in lines if line.strip()]
        return told[-1][:_SHOWN] if told else ""

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _KEPT):
                self._kept = (self._kept + data)[-_KEPT:]

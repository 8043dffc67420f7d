"""Standard streams that may be closed: a command does its work even if nobody reads what it prints."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def tolerate_closed_streams() -> None:
    """Open standard streams that are closed on the null device, and ignore that the reader of a pipe is gone.

    Python leaves a closed stream closed: the next file that is opened would take its number, and what a library prints
    would be written into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open until the process ends
    sys.stdout, sys.stderr = _tolerant(sys.stdout, 1), _tolerant(sys.stderr, 2)


def _tolerant(stream: TextIO | None, number: int) -> TextIO:
    """Return a stream like this one that drops what nobody reads."""
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    buffer = io.BufferedWriter(cast(io.RawIOBase, _TolerantFile(number, "w", closefd=False)))
    encoding, errors = (stream.encoding, stream.errors) if stream is not None else ("utf-8", "backslashreplace")
    is_line_wise = number == 2 or buffer.isatty()  # as Python has it
    return io.TextIOWrapper(buffer, encoding=encoding, errors=errors, line_buffering=is_line_wise)


class _TolerantFile(io.FileIO):
    """A stream whose writes succeed if it is a pipe that nobody reads any more.

    Another error, such as a full disk, is raised once if it concerns standard output.
    """

    _has_failed = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == 1 and not isinstance(error, BrokenPipeError) and not self._has_failed:
                self._has_failed = True  # or Python would try the same again when it ends, and print a traceback
                raise OSError(error.errno, error.strerror, "standard output") from None
            return len(data)

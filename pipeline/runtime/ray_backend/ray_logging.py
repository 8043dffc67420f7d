"""Ray's output on the console, reduced to what a user needs. Ray's log files keep the rest."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import worker

from pipeline.runtime.errors import reason
from pipeline.visible import visible_line

_LEVEL = "RAY_BACKEND_LOG_LEVEL"
_HIDDEN = (_LEVEL.encode(), b"gcs_client.cc", b"rpc_client.h", b"network_util.cc")
"""The notice about the level, the sources of warnings about attempts to connect, which end in an error, and that of
warnings about a machine without a network."""


@contextmanager
def suppress_startup_logs() -> Iterator[None]:
    """Limit the log of Ray's C++ part to fatal errors, and hide what it prints regardless. Wraps `ray.init`.

    Each start of a replica would otherwise print an error about constructor arguments in the object store, where Ray
    Data itself puts them for as long as the Dataset runs.
    """
    os.environ.setdefault(_LEVEL, "fatal")
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        console = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(console, 2)
            os.close(console)
            captured.seek(0)
            for line in captured.read().splitlines(keepends=True):
                if not any(each in line for each in _HIDDEN):
                    os.write(2, line)


@contextmanager
def hidden_error_messages() -> Iterator[None]:
    """In the block, do not print the tracebacks of failed tasks and actors that a cluster sends to its drivers.

    Ray prints them on standard output even if no logs of workers are wanted. What concerns the run fails it, or is in
    the log of Ray Data.
    """
    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


@contextmanager
def limited_ray_data_logs() -> Iterator[None]:
    """In the block, print one line for each shard that crashed its worker, and nothing else of Ray Data's log."""
    handlers = logging.getLogger("ray.data").handlers
    before = [(each, each.level, each.formatter) for each in handlers if isinstance(each, logging.StreamHandler)]
    for handler, _, _ in before:
        handler.setLevel(logging.ERROR)
        handler.setFormatter(_CrashedShardFormatter())
        handler.addFilter(_is_crashed_shard)
    try:
        yield
    finally:
        for handler, level, formatter in before:
            handler.setLevel(level)
            handler.setFormatter(formatter)
            handler.removeFilter(_is_crashed_shard)


def _is_crashed_shard(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and "Ignoring this exception" in record.getMessage()


class _CrashedShardFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        return visible_line(f"shard crashed its worker and will be retried: {reason(error)}")

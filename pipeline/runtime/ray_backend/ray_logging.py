"""What Ray says on the console: what a person needs, and no more. Its log files keep the rest."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.runtime.errors import reason

_LEVEL = "RAY_BACKEND_LOG_LEVEL"


@contextmanager
def suppress_startup_logs() -> Iterator[None]:
    """For the time of `ray.init`: Ray's C++ part to say nothing but fatal errors from now on, not even that it does.

    Each replica's start would print an error about constructor arguments in the object store: Ray Data itself puts
    them there, and keeps them for as long as the Dataset runs.
    """
    os.environ.setdefault(_LEVEL, "fatal")
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        console = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(console, 2)
            os.close(console)
            said.seek(0)
            for line in said.read().splitlines(keepends=True):
                if _LEVEL.encode() not in line:
                    os.write(2, line)


def limit_ray_data_logs() -> None:
    """Ray Data's own words go to its log file; of shards that it gives up in a pass the console gets one line each."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)
            handler.setFormatter(_LostShardFormatter())
            handler.addFilter(_is_lost_shard)


def _is_lost_shard(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and "Ignoring this exception" in record.getMessage()


class _LostShardFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"lost for now, to be run again: {reason(record.exc_info[1] if record.exc_info else None)}"

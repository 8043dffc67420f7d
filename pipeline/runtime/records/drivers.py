"""Markers of drivers: each writes one to OUTPUT when it begins to work, and deletes it when it ends."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from pipeline.sinks.run_records import read_record
from pipeline.storage import Missing, Store

DRIVERS = "_run/drivers/"


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A driver that began to work on a run. `host`, `namespace` and `pid` name its process; an earlier version, and
    systems without /proc, leave some of them empty."""

    run: str
    host: str = ""
    namespace: str = ""
    pid: int = 0

    @property
    def is_here(self) -> bool:
        """Whether the driver's process is, or was, on this machine, and in this container."""
        return bool(self.host and self.namespace) and (self.host, self.namespace) == _here()

    @property
    def is_alive(self) -> bool | None:
        """Whether the driver's process runs; None if it cannot be known from here."""
        if not self.is_here:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is of another user
            pass
        return True


def put_marker(output: Store, key: str, run: str) -> None:
    """Write the marker of this process, or change its run."""
    host, namespace = _here()
    output.put(key, json.dumps(asdict(Marker(run=run, host=host, namespace=namespace, pid=os.getpid()))).encode())


def read_markers(output: Store, run: str) -> Iterator[tuple[str, Marker]]:
    """Yield the markers of a run with their keys."""
    for key in output.keys(DRIVERS):
        with suppress(Missing):  # deleted since it was listed
            marker = read_record(output, key, lambda data: Marker(**json.loads(data)))
            if marker.run == run:
                yield key, marker


def describe_drivers(markers: Sequence[Marker]) -> str:
    """Say whether a driver is at work, as far as it can be known from here."""
    if alive := [marker for marker in markers if marker.is_alive]:
        return f"running, in process {alive[0].pid} of this machine"
    if unknown := [marker for marker in markers if marker.is_alive is None]:
        where = f"on {unknown[0].host}" if unknown[0].host else "elsewhere"
        return f"running {where}, or killed there: it began and did not say that it ended"
    if markers:
        return f"nothing runs: process {markers[0].pid} of this machine was killed"
    return "nothing runs"


def _here() -> tuple[str, str]:
    """Return the name of this machine, and what distinguishes the processes of its containers."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    return socket.gethostname(), namespace

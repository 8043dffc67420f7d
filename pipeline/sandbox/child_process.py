"""A child process as its parent sees it: calls, time limits and how it died."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.sandbox.call_timer import create_timer_file, map_timers
from pipeline.sandbox.errors import Crashed, Died, NotStarted, TimedOut, describe_exit
from pipeline.sandbox.resource_limits import ResourceLimits
from pipeline.sandbox.stderr_tail import StderrTail
from pipeline.sandbox.transport import Kind, Message, Transport, dump_message

_START_SECONDS = 120.0  # time limit of starting the interpreter, and of the imports of a function
_EXIT_SECONDS = 2.0  # time limit of exiting after the sockets were closed
# Allocators that reserve address space by the GiB, or 64 MiB per thread, would use up a limit for nothing.
_SMALL_ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
_BOOT = (
    "import json, sys\n"
    "given = json.loads(sys.argv[1])\n"
    "sys.path[:] = given.pop('path')\n"
    "from pipeline.sandbox.child_main import main\n"
    "main(**given)\n"
)


class ChildProcess:
    """A fresh interpreter with a transport and a timer for each of its threads. It ends with its parent."""

    def __init__(self, limits: ResourceLimits, threads: int) -> None:
        self._lock = threading.Lock()
        self._died: Died | None = None
        self._culprits: frozenset[int] = frozenset()  # threads that are known to have caused its death
        self._ready = True  # until a start or an import takes too long
        pairs = [socket.socketpair() for _ in range(threads + 1)]
        timer_file = create_timer_file(threads)
        self._started, self._timers = map_timers(timer_file, threads)
        self._control, *ends = (ours for ours, _ in pairs)
        self._transports = [Transport(end) for end in ends]
        theirs = [their.fileno() for _, their in pairs]
        self._popen = _start(limits, theirs, timer_file)
        self._stderr = StderrTail(self._popen.stderr)
        os.close(timer_file)
        for _, their in pairs:
            their.close()
        weakref.finalize(self, _release, self._popen, [ours for ours, _ in pairs])  # also when this process ends

    @property
    def alive(self) -> bool:
        """Whether it can take a call, as far as is known."""
        return self._died is None and self._popen.poll() is None

    def call(self, thread: int, function: bytes, arguments: tuple[Any, ...], seconds: float) -> Iterator[Any]:
        """Yield the results of a call in one of its threads, each made on request. Raises Died if the process does."""
        answer = self._request(thread, dump_message(Kind.CALL, arguments).with_function(function), seconds)
        try:
            while answer.kind is Kind.RESULT:
                yield answer.load()
                answer = self._request(thread, Message(Kind.NEXT), seconds)
            if answer.kind is Kind.ERROR:
                raise answer.load()
            if answer.kind is Kind.LAST:
                yield answer.load()
        finally:
            if answer.kind is Kind.RESULT:
                with suppress(Died):  # nothing more is needed of it
                    self._request(thread, Message(Kind.STOP), seconds)

    def end(self) -> None:
        """End it at once. Calls in it raise Died."""
        self._popen.kill()
        self._popen.wait()

    def _request(self, thread: int, message: Message, seconds: float) -> Message:
        """Send a message and return the answer, for which the thread may work so many seconds."""
        transport = self._transports[thread]
        try:
            transport.send(message)
            self._await(thread, seconds)
            return transport.receive()
        except (EOFError, OSError):
            raise self._death(thread) from None
        except BaseException:  # part of a message may be left: the next one could not be found
            self.end()
            raise

    def _await(self, thread: int, seconds: float) -> None:
        """Wait for an answer or the end of the process."""
        ready, timer, sent = select.poll(), self._timers[thread], time.monotonic()
        ready.register(self._transports[thread], select.POLLIN)
        while not ready.poll(1000 * max(0.01, min(seconds - timer.seconds, _START_SECONDS))):
            if timer.seconds >= seconds:
                self._time_out(thread, seconds)
            elif not timer.runs and time.monotonic() - sent > _START_SECONDS:
                self._ready = False
                self._popen.kill()

    def _time_out(self, thread: int, seconds: float) -> None:
        """End the process because a thread exceeded its time limit."""
        with self._lock:
            if self._died is None:
                self._culprits = frozenset({thread})
                self._died = TimedOut(f"no result within {seconds:g} s")
                self._popen.kill()

    def _death(self, thread: int) -> Exception:
        """Return how the process died, for the call of one of its threads."""
        with self._lock:
            self._wait_for_exit()
            assert self._died is not None
            died, culprit = self._died, thread in self._culprits
        if not (self._ready and self._started.runs):
            return NotStarted(f"the child process could not start: {died}")
        if isinstance(died, TimedOut) and not culprit:
            return TimedOut(f"the child process was stopped because another call in it had {died}")
        return type(died)(str(died), culprit=culprit)

    def _wait_for_exit(self) -> None:
        """Find out how the process died, unless it was ended for its time limit."""
        try:
            code = self._popen.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its sockets and still runs
            self._popen.kill()
            code = self._popen.wait()
        if self._died is None:
            working = frozenset(number for number, timer in enumerate(self._timers) if timer.runs)
            self._culprits = working if len(working) == 1 else frozenset()
            self._died = Crashed(describe_exit(code, self._stderr.last_line()))


@cache
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not outlive a fork
    """Return a thread that lives as long as this process: Linux ends a child with the *thread* that started it."""
    return ThreadPoolExecutor(1, "child-starter")


def _start(limits: ResourceLimits, sockets: list[int], timers: int) -> subprocess.Popen[bytes]:
    """Start the interpreter. It imports from the same folders as this process, not from its working folder."""
    given = {
        "path": [str(Path(folder).absolute()) for folder in sys.path],
        "parent": os.getpid(),
        "sockets": sockets,
        "timers": timers,
        "memory": limits.memory_bytes,
    }
    command = [sys.executable, "-P", "-c", _BOOT, json.dumps(given)]
    environment = os.environ | (_SMALL_ALLOCATORS if limits.memory_bytes is not None else {})

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - this interpreter
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(*sockets, timers),
        )

    return _starter(os.getpid()).submit(start).result()


def _release(process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
    process.kill()
    process.wait()
    for end in sockets:
        end.close()

"""One life of a child process, as its parent sees it."""

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
from pipeline.sandbox.transport import Kind, Message, Transport, dumped

_STARTING = 120.0  # seconds that the interpreter, or what a function imports, may take
_ENDING = 2.0  # seconds for a process that has let go of its wires to end
# Allocators that take address space by the GiB at first, or 64 MiB for each thread, would spend a limit on nothing.
_SPARING = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
_BOOT = (
    "import json, sys\n"
    "given = json.loads(sys.argv[1])\n"
    "sys.path[:] = given.pop('path')\n"
    "from pipeline.sandbox.child_main import main\n"
    "main(**given)\n"
)


class ChildProcess:
    """A fresh interpreter, with a wire and a clock for each of its threads. It ends when its parent does."""

    def __init__(self, limits: ResourceLimits, threads: int) -> None:
        self._lock = threading.Lock()
        self._died: Died | None = None
        self._culprits: frozenset[int] = frozenset()
        self._ready = True  # as far as is known
        pairs = [socket.socketpair() for _ in range(threads + 1)]
        times = create_timer_file(threads)
        self._started, self._clocks = map_timers(times, threads)
        self._control, *wires = (ours for ours, _ in pairs)
        self._wires = [Transport(wire) for wire in wires]
        theirs = [their.fileno() for _, their in pairs]
        self._popen = _start(limits, theirs, times)
        self._said = StderrTail(self._popen.stderr)
        os.close(times)
        for _, their in pairs:
            their.close()
        weakref.finalize(self, _let_go, self._popen, [ours for ours, _ in pairs])  # when this process ends, too

    @property
    def alive(self) -> bool:
        """Whether it can take a call, as far as is known."""
        return self._died is None and self._popen.poll() is None

    def call(self, thread: int, function: bytes, arguments: tuple[Any, ...], seconds: float) -> Iterator[Any]:
        """The results of a call in one of its threads, each made when it is asked for; Died where the process is."""
        answer = self._ask(thread, dumped(Kind.CALL, arguments).together(function), seconds)
        try:
            while answer.kind is Kind.RESULT:
                yield answer.value
                answer = self._ask(thread, Message(Kind.NEXT), seconds)
            if answer.kind is Kind.ERROR:
                raise answer.value
            if answer.kind is Kind.LAST:
                yield answer.value
        finally:
            if answer.kind is Kind.RESULT:
                with suppress(Died):  # it is as well: nothing more is asked of it
                    self._ask(thread, Message(Kind.STOP), seconds)

    def end(self) -> None:
        """End it at once. What is still at work in it ends with Died."""
        self._popen.kill()
        self._popen.wait()

    def _ask(self, thread: int, message: Message, seconds: float) -> Message:
        """Send a message and wait for the answer, no longer than so many seconds of the thread's time."""
        wire = self._wires[thread]
        try:
            wire.send(message)
            self._await(thread, seconds)
            return wire.receive()
        except (EOFError, OSError):
            raise self._death(thread) from None
        except BaseException:  # in the middle of a message: what follows could not be told apart
            self.end()
            raise

    def _await(self, thread: int, seconds: float) -> None:
        """Return once there is an answer to read, or the process is gone."""
        ready, clock, asked = select.poll(), self._clocks[thread], time.monotonic()
        ready.register(self._wires[thread], select.POLLIN)
        while not ready.poll(1000 * max(0.01, min(seconds - clock.seconds, _STARTING))):
            if clock.seconds >= seconds:
                self._overdue(thread, seconds)
            elif not clock.runs and time.monotonic() - asked > _STARTING:
                self._ready = False
                self._popen.kill()

    def _overdue(self, thread: int, seconds: float) -> None:
        """End the process, as the time of a thread is up."""
        with self._lock:
            if self._died is None:
                self._culprits = frozenset({thread})
                self._died = TimedOut(f"no result within {seconds:g} s")
                self._popen.kill()

    def _death(self, thread: int) -> Exception:
        """How the process died, as it concerns one of its threads."""
        with self._lock:
            self._find_out()
            assert self._died is not None
            died, culprit = self._died, thread in self._culprits
        if not (self._ready and self._started.runs):
            return NotStarted(f"a child process could not be started: {died}")
        if isinstance(died, TimedOut) and not culprit:
            return TimedOut(f"its process was ended, as another call in it had {died}")
        return type(died)(str(died), culprit=culprit)

    def _find_out(self) -> None:
        try:
            code = self._popen.wait(_ENDING)
        except subprocess.TimeoutExpired:  # its wires are closed, though it runs
            self._popen.kill()
            code = self._popen.wait()
        if self._died is None:
            working = frozenset(number for number, clock in enumerate(self._clocks) if clock.runs)
            self._culprits = working if len(working) == 1 else frozenset()
            self._died = Crashed(describe_exit(code, self._said.last_line()))


@cache
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not outlive a fork
    """A thread that lives as long as this process: Linux ends a child with the *thread* that started it."""
    return ThreadPoolExecutor(1, "child-starter")


def _start(limits: ResourceLimits, wires: list[int], times: int) -> subprocess.Popen[bytes]:
    """The child finds modules where this process does, and nowhere else: not in its working folder by itself."""
    given = {
        "path": [str(Path(folder).absolute()) for folder in sys.path],
        "parent": os.getpid(),
        "wires": wires,
        "times": times,
        "memory": limits.memory_bytes,
    }
    command = [sys.executable, "-P", "-c", _BOOT, json.dumps(given)]
    environment = os.environ | (_SPARING if limits.memory_bytes is not None else {})

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - this interpreter
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(*wires, times),
        )

    return _starter(os.getpid()).submit(start).result()


def _let_go(process: subprocess.Popen[bytes], wires: list[socket.socket]) -> None:
    process.kill()
    process.wait()
    for wire in wires:
        wire.close()

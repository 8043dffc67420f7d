"""A child process as its parent sees it: calls, time limits and how it died."""

import json
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any

from pipeline.sandbox.call_timer import create_timer_file, map_timers
from pipeline.sandbox.errors import Crashed, Died, NotStarted, TimedOut, describe_exit
from pipeline.sandbox.resource_limits import ResourceLimits
from pipeline.sandbox.transport import Kind, Message, Transport, dump_message
from pipeline.storage import redact

_START_SECONDS = 120.0  # time limit of starting the interpreter, and of the imports of a function
_EXIT_SECONDS = 2.0  # time limit of exiting after the sockets were closed
_STDERR_BYTES, _STDERR_LINE_CHARACTERS = 4096, 200  # that are kept, and shown of the last line
_DRAIN_SECONDS = 1.0  # time limit of reading the rest of stderr after the process has ended
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
        self._culprit: int | None = None  # the thread that caused its death, if that is known
        self._ready = True  # until a start or an import takes too long
        ours, theirs = zip(*(socket.socketpair() for _ in range(threads + 1)), strict=True)
        timer_file = create_timer_file(threads)
        self._started, self._timers = map_timers(timer_file, threads)
        self._transports = [Transport(end) for end in ours[1:]]
        self._popen = _start(limits, [end.fileno() for end in theirs], timer_file)
        self._stderr = StderrTail(self._popen.stderr)
        os.close(timer_file)
        for end in theirs:
            end.close()
        weakref.finalize(self, _release, self._popen, ours)  # also when this process ends

    @property
    def alive(self) -> bool:
        """Whether it can take a call, as far as is known."""
        return self._died is None and self._popen.poll() is None

    def call(self, thread: int, function: bytes, arguments: tuple[Any, ...], seconds: float) -> Iterator[Any]:
        """Yield the results of a call in one of its threads, each made on request. Raises Died if the process does."""
        message = dump_message(Kind.CALL, arguments)
        answer = self._request(thread, message._replace(buffers=(function, *message.buffers)), seconds)
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
                with self._lock:
                    if self._died is None:
                        self._died, self._culprit = TimedOut(f"no result within {seconds:g} s"), thread
                        self._popen.kill()
            elif not timer.runs and time.monotonic() - sent > _START_SECONDS:
                self._ready = False
                self._popen.kill()

    def _death(self, thread: int) -> Exception:
        """Return how the process died, for the call of one of its threads."""
        with self._lock:
            try:
                code = self._popen.wait(_EXIT_SECONDS)
            except TimeoutExpired:  # it closed its sockets and still runs
                self._popen.kill()
                code = self._popen.wait()
            if self._died is None:
                working = [number for number, timer in enumerate(self._timers) if timer.runs]
                self._culprit = working[0] if len(working) == 1 else None
                self._died = Crashed(describe_exit(code, self._stderr.last_line()))
            died, culprit = self._died, thread == self._culprit
        if not (self._ready and self._started.runs):
            return NotStarted(f"the child process could not start: {died}")
        if isinstance(died, TimedOut) and not culprit:
            return TimedOut(f"the child process was stopped because another call in it had {died}")
        return type(died)(str(died), culprit=culprit)


class StderrTail:
    """Reads a child's standard error, of which nothing reaches the console, in a thread and keeps the last bytes."""

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
        return texts[-1][:_STDERR_LINE_CHARACTERS] if texts else ""

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _STDERR_BYTES):
                self._tail = (self._tail + data)[-_STDERR_BYTES:]


@cache
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads do not outlive a fork
    """Return a thread that lives as long as this process: Linux ends a child with the *thread* that started it."""
    return ThreadPoolExecutor(1, "child-starter")


def _start(limits: ResourceLimits, sockets: list[int], timers: int) -> Popen[bytes]:
    """Start the interpreter. It imports from the same folders as this process, but not from its working directory."""
    given = {
        "path": _import_path(),
        "parent": os.getpid(),
        "sockets": sockets,
        "timers": timers,
        "memory": limits.memory_bytes,
    }
    command = [sys.executable, "-P", "-c", _BOOT, json.dumps(given)]
    environment = os.environ | (_SMALL_ALLOCATORS if limits.memory_bytes is not None else {})
    environment.pop("PYTHONPATH", None)  # contained in `path`
    start = partial[Popen[bytes]](
        Popen, command, env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, pass_fds=(*sockets, timers)
    )
    return _starter(os.getpid()).submit(start).result()


def _import_path() -> list[str]:
    """Return `sys.path` without the working directory; if this project is imported from there, it comes last."""
    folders, project = [Path(folder).absolute() for folder in sys.path], Path(__file__).parents[2]
    working = Path.cwd() if Path().exists() else None  # it may have been deleted
    others = [folder for folder in folders if folder != working]
    return [*map(str, others), *([str(project)] if project == working and project in folders else [])]


def _release(process: Popen[bytes], sockets: Iterable[socket.socket]) -> None:
    process.kill()
    process.wait()
    for end in sockets:
        end.close()

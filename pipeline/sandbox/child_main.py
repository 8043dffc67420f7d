"""The child's side: threads that each take calls from a wire of their own."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pipeline.sandbox.call_timer import CallTimer, map_timers
from pipeline.sandbox.exception_pickling import pickle_error
from pipeline.sandbox.resource_limits import limit_memory
from pipeline.sandbox.transport import Kind, Message, Transport, dumped
from pipeline.storage.wait_hook import set_wait_hook

_PR_SET_PDEATHSIG = 1


def main(*, parent: int, wires: list[int], times: int, memory: int | None) -> NoReturn:
    """Take calls until the parent is gone. wires: descriptors of sockets, the first of which only tells of that."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a file that crashes a decoder shall not fill the disk as well
    control, *sockets = (socket.socket(fileno=wire) for wire in wires)
    started, clocks = map_timers(times, len(sockets))
    functions = FunctionCache(memory)
    started.begin()
    for end, clock in zip(sockets, clocks, strict=True):
        threading.Thread(target=_serve, args=(Transport(end), clock, functions), daemon=True).start()
    while control.recv(1):
        pass
    os._exit(0)  # whatever the threads do


class FunctionCache:
    """The functions that calls name, each unpickled once; once the first is there, memory is limited."""

    def __init__(self, memory: int | None) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._last: tuple[bytes, Callable[..., Any]] | None = None

    def __call__(self, pickled: bytes) -> Callable[..., Any]:
        """The function again."""
        with self._lock:
            if self._last is None or self._last[0] != pickled:
                self._last = pickled, pickle.loads(pickled)  # noqa: S301 - of our own parent
            if self._memory is not None:
                limit_memory(self._memory)
                self._memory = None
            return self._last[1]


def _serve(wire: Transport, clock: CallTimer, functions: FunctionCache) -> None:
    """Take calls, one after another."""
    set_wait_hook(clock.wait)
    try:
        while True:
            call = wire.receive()
            answer = _call(wire, clock, functions, call)
            clock.stop()
            wire.send(answer)
            del call, answer
    except (EOFError, ConnectionError):  # the parent is gone, and main ends the process
        return
    except BaseException:  # noqa: BLE001 - no memory for a message, for example: without this thread a call would wait
        traceback.print_exc()
        os._exit(1)


def _call(wire: Transport, clock: CallTimer, functions: FunctionCache, call: Message) -> Message:
    """Give the results of a call as they are asked for; how it ended."""
    try:
        pickled, arguments = call.apart()
        function = functions(pickled)  # what it imports takes its time, which is none of the call's
        clock.begin()
        results = iter(function(*arguments.value))
        try:
            answer = _next(results)
            while answer.kind is Kind.RESULT:
                clock.stop()  # no time passes for the call until another one is asked for
                wire.send(answer)
                del answer  # it may be large, and the next one too
                asked = wire.receive()
                clock.begin()
                answer = _next(results) if asked.kind is Kind.NEXT else Message(Kind.END)
            return answer
        finally:
            if hasattr(results, "close"):
                results.close()
    except BaseException as error:  # noqa: BLE001 - even SystemExit: this thread takes the next call
        return pickle_error(error)


def _next(results: Iterator[Any]) -> Message:
    """The message of the next result, or of the end."""
    try:
        return dumped(Kind.RESULT, next(results))
    except StopIteration as end:
        return Message(Kind.END) if end.value is None else dumped(Kind.LAST, end.value)


def _end_with(parent: int) -> None:
    """End this process when its parent ends, even where no thread of it can run Python any more."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(0)

"""Main function of the child process: threads that each serve calls from a transport of their own."""

import os
import pickle
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, NoReturn, TypeAlias

from pipeline.sandbox.call_timer import CallTimer, map_timers
from pipeline.sandbox.errors import stand_in
from pipeline.sandbox.resource_limits import limit_memory
from pipeline.sandbox.transport import Kind, Message, Transport, dump_message
from pipeline.storage import redact
from pipeline.storage.wait_hook import wait_hook

LoadFunction: TypeAlias = Callable[[bytes], Callable[..., Any]]
_PR_SET_PDEATHSIG = 1


def main(*, parent: int, sockets: list[int], timers: int, memory: int | None) -> NoReturn:
    """Serve calls until the parent is gone.

    Args:
        parent: Process id of the parent.
        sockets: Descriptors of sockets. The first is closed when the parent ends; each other one serves one thread.
        timers: Descriptor of the file of timers.
        memory: Bytes of address space that calls may take together, None for no limit.
    """
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk
    control, *ends = (socket.socket(fileno=descriptor) for descriptor in sockets)
    started, thread_timers = map_timers(timers, len(ends))
    load_function = function_loader(memory)
    started.begin()
    for end, timer in zip(ends, thread_timers, strict=True):
        threading.Thread(target=_serve, args=(Transport(end), timer, load_function), daemon=True).start()
    while control.recv(1):
        pass
    os._exit(0)  # without waiting for the threads


def function_loader(memory: int | None) -> LoadFunction:
    """Return what unpickles the functions of calls, the same one in a row once. It limits memory after the first."""
    lock, unpickle, limit_once = threading.Lock(), lru_cache(maxsize=1)(pickle.loads), cache(limit_memory)

    def load(pickled: bytes) -> Callable[..., Any]:
        with lock:
            function = unpickle(bytes(pickled))
            if memory is not None:
                limit_once(memory)
            return function

    return load


def _serve(transport: Transport, timer: CallTimer, load_function: LoadFunction) -> None:
    """Serve calls one after another."""
    wait_hook.set(timer.wait)
    try:
        while True:
            call = transport.receive()
            answer = _call(transport, timer, load_function, call)
            timer.stop()
            transport.send(answer)
            del call, answer
    except (EOFError, ConnectionError):  # the parent is gone: main ends the process
        return
    except BaseException:  # noqa: BLE001 - such as no memory for a message: without this thread a call would wait for ever
        traceback.print_exc()
        os._exit(1)


def _call(transport: Transport, timer: CallTimer, load_function: LoadFunction, call: Message) -> Message:
    """Send the results of a call as the parent requests them; return its last message."""
    try:
        pickled, *buffers = call.buffers
        function = load_function(pickled)  # the time of its imports is not the call's
        timer.begin()
        results = iter(function(*call._replace(buffers=tuple(buffers)).load()))
        try:
            answer = _next(results)
            while answer.kind is Kind.RESULT:
                timer.stop()  # until the parent requests the next result
                transport.send(answer)
                del answer  # free its memory before the next result is made
                request = transport.receive()
                timer.begin()
                answer = _next(results) if request.kind is Kind.NEXT else Message(Kind.END)
            return answer
        finally:
            if hasattr(results, "close"):
                results.close()
    except BaseException as error:  # noqa: BLE001 - even SystemExit: this thread serves the next call
        return _error_message(error)


def _next(results: Iterator[Any]) -> Message:
    """Return the message of the next result, or of the end."""
    try:
        return dump_message(Kind.RESULT, next(results))
    except StopIteration as end:
        return Message(Kind.END) if end.value is None else dump_message(Kind.LAST, end.value)


def _error_message(error: BaseException) -> Message:
    """Return the message of an error, with its traceback as a note.

    An error that is not an Exception, such as SystemExit, would end the parent's thread: a stand-in replaces it.
    """
    if isinstance(error, Exception):
        error.add_note(redact("in its own process:\n" + "".join(traceback.format_tb(error.__traceback__))))
        with suppress(Exception):  # whatever prevents pickling
            message = dump_message(Kind.ERROR, error)
            message.load()  # many errors can be pickled, but not unpickled
            return message
    return dump_message(Kind.ERROR, stand_in(type(error).__name__, str(error)))


def _end_with(parent: int) -> None:
    """Have the system end this process with its parent, even if no thread of it can run Python any more."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has ended already
            os._exit(0)

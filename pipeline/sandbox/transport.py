"""Messages between a process and its child: a pickle, and beside it the memory of arrays as it lies.

An array is sent from where it is and received into memory of its own, never through a copy in a pickle.
"""

from __future__ import annotations

import io
import pickle
import socket
import struct
from enum import IntEnum
from typing import Any, NamedTuple, cast

import cloudpickle

_HEAD = struct.Struct("<BIQ")  # kind, number of buffers, bytes of the pickle
_SMALL = 1 << 14  # bytes of an array up to which it stays in the pickle: beside it, it would take longer
_AHEAD = 1 << 16  # bytes that are received before it is known whose they are


class Kind(IntEnum):
    """What a message is. From the parent: a call, and after each result whether it goes on. The child has the rest."""

    CALL = 1
    NEXT = 2
    STOP = 3
    RESULT = 4
    LAST = 5  # a result with which the call ends
    END = 6
    ERROR = 7


class Message(NamedTuple):
    """A kind, and a value as `dumped` makes it."""

    kind: Kind
    pickled: bytes | bytearray = b""
    buffers: tuple[Any, ...] = ()

    def together(self, function: bytes) -> Message:
        """The message with a pickled function before its buffers."""
        return self._replace(buffers=(function, *self.buffers))

    def apart(self) -> tuple[bytes, Message]:
        """The function, and the message without it."""
        return self.buffers[0], self._replace(buffers=self.buffers[1:])

    @property
    def value(self) -> Any:
        """The value again. Raises what unpickling it raises."""
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301 - of our own child or parent


def dumped(kind: Kind, value: Any) -> Message:
    """The message of a value. cloudpickle takes along what the other side could not import, as a class of a notebook;
    of results, which are many and made of what both sides have, only where pickle fails, for it takes longer."""
    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes <= _SMALL:
            return True
        buffers.append(raw)
        return False

    try:
        dumps = cloudpickle.dumps if kind is Kind.CALL else pickle.dumps
        pickled = dumps(value, protocol=5, buffer_callback=take)
    except (pickle.PicklingError, AttributeError, TypeError):
        buffers.clear()
        pickled = cloudpickle.dumps(value, protocol=5, buffer_callback=take)
    return Message(kind, pickled, tuple(buffers))


class Transport:
    """One end of a pair of sockets, over which messages go to and fro: each side waits for the other's answer."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = cast(io.BufferedReader, end.makefile("rb", _AHEAD))

    def fileno(self) -> int:
        """The descriptor, which has something to read when there is a message or nobody at the other end."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a message whole. OSError where nobody is there any more."""
        sizes = struct.pack(f"<{len(message.buffers)}Q", *map(len, message.buffers))
        head = _HEAD.pack(message.kind, len(message.buffers), len(message.pickled))
        if sum(map(len, message.buffers)) <= _AHEAD:
            self._end.sendall(b"".join((head, sizes, message.pickled, *message.buffers)))
            return
        self._end.sendall(b"".join((head, sizes, message.pickled)))
        for buffer in message.buffers:
            self._end.sendall(buffer)

    def receive(self) -> Message:
        """The next message, once it is there. EOFError or OSError where the other end is gone."""
        kind, count, size = _HEAD.unpack(self._filled(_HEAD.size))
        sizes = struct.unpack(f"<{count}Q", self._filled(8 * count))
        return Message(Kind(kind), self._filled(size), tuple(map(self._filled, sizes)))

    def _filled(self, size: int) -> bytearray:
        """The next so many bytes."""
        data = bytearray(size)
        if size and self._file.readinto(data) != size:
            raise EOFError("the other end is gone")
        return data

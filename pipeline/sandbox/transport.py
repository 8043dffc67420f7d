"""Messages between a process and its child: a pickle, and the buffers of large arrays next to it.

An array is sent from its own memory and received into new memory, without a copy in the pickle.
"""

import io
import pickle
import socket
import struct
from enum import IntEnum
from typing import Any, NamedTuple, cast

import cloudpickle

_HEAD = struct.Struct("<BIQ")  # kind, number of buffers, bytes of the pickle
_IN_PICKLE_BYTES = 1 << 14  # smaller arrays stay in the pickle, which is faster
_READ_AHEAD_BYTES = 1 << 16


class Kind(IntEnum):
    """Kinds of message. The parent sends the first three: a call, and after each result whether to continue."""

    CALL = 1
    NEXT = 2
    STOP = 3
    RESULT = 4
    LAST = 5  # a result that ends the call
    END = 6
    ERROR = 7


class Message(NamedTuple):
    """A kind and a pickled value, as `dump_message` makes it. The first buffer of a call is its pickled function."""

    kind: Kind
    pickled: bytes | bytearray = b""
    buffers: tuple[Any, ...] = ()

    def load(self) -> Any:
        """Unpickle the value. Raises what unpickling it raises."""
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301 - of our own child or parent


def dump_message(kind: Kind, value: Any) -> Message:
    """Return the message of a value.

    cloudpickle also sends what the other side cannot import, such as a class of a notebook. It is slower: results,
    which are many, use it only if pickle fails.
    """
    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes <= _IN_PICKLE_BYTES:
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
    """One end of a pair of sockets. Each side waits for the other's answer."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = cast(io.BufferedReader, end.makefile("rb", _READ_AHEAD_BYTES))

    def fileno(self) -> int:
        """Return the descriptor: it is readable if there is a message or the other end is closed."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a whole message. Raises OSError if the other end is closed."""
        sizes = struct.pack(f"<{len(message.buffers)}Q", *map(len, message.buffers))
        head = _HEAD.pack(message.kind, len(message.buffers), len(message.pickled))
        if sum(map(len, message.buffers)) <= _READ_AHEAD_BYTES:
            self._end.sendall(b"".join((head, sizes, message.pickled, *message.buffers)))
            return
        self._end.sendall(b"".join((head, sizes, message.pickled)))
        for buffer in message.buffers:
            self._end.sendall(buffer)

    def receive(self) -> Message:
        """Wait for the next message. Raises EOFError or OSError if the other end is closed."""
        kind, count, size = _HEAD.unpack(self._read(_HEAD.size))
        sizes = struct.unpack(f"<{count}Q", self._read(8 * count))
        return Message(Kind(kind), self._read(size), tuple(map(self._read, sizes)))

    def _read(self, size: int) -> bytearray:
        """Return the next `size` bytes."""
        data = bytearray(size)
        if size and self._file.readinto(data) != size:
            raise EOFError("the other end is closed")
        return data

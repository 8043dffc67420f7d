"""Pickling of errors that a child sends to its parent."""

from __future__ import annotations

import traceback

from pipeline.sandbox.transport import Kind, Message, dump_message
from pipeline.storage import redact


class StandIn(Exception):  # noqa: N818 - its subclasses have the names of errors
    """Replaces an error that cannot be pickled, by a subclass with the name of its class."""

    def __reduce__(self) -> tuple[object, ...]:
        return stand_in, (type(self).__name__, str(self))


def stand_in(name: str, message: str) -> StandIn:
    """Return an error whose class has that name."""
    kind: type[StandIn] = type(name, (StandIn,), {})
    return kind(message)


def pickle_error(error: BaseException) -> Message:
    """Return the message of an error, with its traceback as a note.

    An error that is not an Exception, such as SystemExit, would end the parent's thread: a stand-in replaces it.
    """
    substitute = stand_in(type(error).__name__, str(error))
    message = dump_message(Kind.ERROR, substitute)
    if isinstance(error, Exception):
        error.add_note(redact("in its own process:\n" + "".join(traceback.format_tb(error.__traceback__))))
        try:
            message = dump_message(Kind.ERROR, error)
            _ = message.load()  # many errors can be pickled, but not unpickled
        except Exception:  # noqa: BLE001 - whatever prevents pickling
            return dump_message(Kind.ERROR, substitute)
    return message

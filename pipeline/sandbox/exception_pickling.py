"""Errors on their way from a child to its parent."""

from __future__ import annotations

import traceback

from pipeline.sandbox.transport import Kind, Message, dumped
from pipeline.storage import redact


class StandIn(Exception):  # noqa: N818 - it is no error of its own
    """Stands for an error that cannot leave its process: its subclasses are called as that one's class."""

    def __reduce__(self) -> tuple[object, ...]:
        return stand_in, (type(self).__name__, str(self))


def stand_in(name: str, message: str) -> StandIn:
    """An error whose class has that name."""
    kind: type[StandIn] = type(name, (StandIn,), {})
    return kind(message)


def pickle_error(error: BaseException) -> Message:
    """The message of an error, with the lines of code that it came by as a note.

    What is no Exception, as SystemExit, would end the parent's thread too: a stand-in goes in its place.
    """
    substitute = stand_in(type(error).__name__, str(error))
    message = dumped(Kind.ERROR, substitute)
    if isinstance(error, Exception):
        error.add_note(redact("in its own process:\n" + "".join(traceback.format_tb(error.__traceback__))))
        try:
            message = dumped(Kind.ERROR, error)
            _ = message.value  # many errors can be pickled, but not made again
        except Exception:  # noqa: BLE001 - whatever it is that keeps the error here
            return dumped(Kind.ERROR, substitute)
    return message

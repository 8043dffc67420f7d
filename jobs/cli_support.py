"""What every verb shares: a program of its own, and exit codes from what went wrong."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

from pipeline.storage import redact

FAILED, WRONG_USAGE, TOO_MUCH_QUARANTINED = 1, 2, 3

Device = Literal["cpu", "cuda"]


class Dtype(StrEnum):
    """Precisions of the engine; an enumeration, since typer takes no list of literals."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_UsageError: Any = typer.BadParameter.__base__  # click's, of which some releases of typer have one of their own


@contextmanager
def discreet() -> Iterator[None]:
    """Usage errors repeat what was typed: a URI, for example, in which there is a password. They show no secrets."""
    try:
        yield
    except _UsageError as error:
        error.message = redact(error.message)
        raise


class Discreet(TyperCommand):
    """A command whose usage errors are discreet, those that are found when words are taken apart and the later ones."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        with discreet():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:
        with discreet():
            return super().invoke(ctx)


def app(command: Callable[..., None], name: str | None = None) -> typer.Typer:
    """A program of one verb: what `python -m jobs.<verb>` runs."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command(name, cls=Discreet)(command)
    return program


def with_exit_code(body: Callable[[], None]) -> None:
    """Run `body`; whatever ends it is told on standard error in words, and becomes the exit code."""
    try:
        body()
    except typer.BadParameter:
        raise  # typer says it, with the usage, and exits with 2
    except KeyboardInterrupt as error:  # a run says how far it came
        _leave(FAILED, str(error) or "interrupted; the same command resumes")
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends the verb, and what was committed stays
        _leave(*_code_and_words(error))


def _code_and_words(error: Exception) -> tuple[int, str]:
    """Errors that are meant for people by their message, any other with its trace."""
    # Imported here: help and usage errors need neither torch nor Ray.
    from pipeline.checkpoints import CheckpointError
    from pipeline.runtime.errors import RunFailed, TooMuchQuarantined, UsageError
    from pipeline.storage import AccessError, StorageError

    if isinstance(error, UsageError | AccessError | CheckpointError):
        return WRONG_USAGE, str(error)
    if isinstance(error, TooMuchQuarantined):
        return TOO_MUCH_QUARANTINED, str(error)
    if isinstance(error, RunFailed | StorageError):
        return FAILED, str(error)
    return FAILED, "".join(traceback.format_exception(error))


def _leave(code: int, message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(redact(message))}", highlight=False, soft_wrap=True)
    sys.exit(code)

"""What every verb shares: a program of its own, and exit codes from what went wrong."""

import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.storage import redact

FAILED, WRONG_USAGE, TOO_MUCH_QUARANTINED = 1, 2, 3

Device = Literal["cpu", "cuda"]


class Dtype(StrEnum):
    """Precisions of the engine; an enumeration, since typer takes no list of literals."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def app(command: Callable[..., None]) -> typer.Typer:
    """A program of one verb: what `python -m jobs.<verb>` runs."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(command)
    return program


def with_exit_code(body: Callable[[], None]) -> None:
    """Run `body`; whatever ends it is told on standard error in words, and becomes the exit code."""
    try:
        body()
    except typer.BadParameter:
        raise  # typer says it, with the usage, and exits with 2
    except KeyboardInterrupt:
        _leave(FAILED, "interrupted; the same command resumes")
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends the verb, and what was committed stays
        _leave(*_code_and_words(error))


def _code_and_words(error: Exception) -> tuple[int, str]:
    """Errors that are meant for people by their message, any other with its trace."""
    # Imported here: help and usage errors need neither torch nor Ray.
    from pipeline.perceiver.fetch import CheckpointError
    from pipeline.runtime.errors import RunFailed, TooMuchQuarantined, UsageError
    from pipeline.storage import AccessError

    if isinstance(error, UsageError | AccessError | CheckpointError):
        return WRONG_USAGE, str(error)
    if isinstance(error, TooMuchQuarantined):
        return TOO_MUCH_QUARANTINED, str(error)
    if isinstance(error, RunFailed):
        return FAILED, str(error)
    return FAILED, "".join(traceback.format_exception(error))


def _leave(code: int, message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(redact(message))}", highlight=False, soft_wrap=True)
    sys.exit(code)

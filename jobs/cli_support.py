"""Shared by every verb: its own program, help without clutter, and exit codes for errors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import typer
from typer.core import TyperCommand

from jobs.process_signals import ended_in_time
from jobs.standard_streams import tolerate_closed_streams
from pipeline.formatting import did_you_mean
from pipeline.runtime.signals import latest_stop, stop_behind, stop_on_signals
from pipeline.storage import redact
from pipeline.terminal import PlainTable, print_error

if TYPE_CHECKING:
    from pipeline.runtime.records.listing import ListedInputs

FAILED, WRONG_USAGE, TOO_MUCH_QUARANTINED = 1, 2, 3

Device = Literal["cpu", "cuda"]


class Dtype(StrEnum):
    """Precisions of the engine; an enumeration because typer takes no list of literals."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_UsageError: Any = typer.BadParameter.__base__  # click's; some releases of typer have their own copy of click


@contextmanager
def reported_errors() -> Iterator[None]:
    """Report every error, and SIGTERM and Ctrl-C, on standard error, and exit with its code."""
    try:
        with stop_on_signals("the same command can be given again", process_ends=True):
            yield
    except (typer.Exit, typer.Abort):
        raise
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which is no error: typer prints the help
            raise
        _exit(WRONG_USAGE, *_usage_message(error))
    except KeyboardInterrupt as error:  # a run adds its progress
        _exit(FAILED, str(error) or str(latest_stop() or "interrupted; the same command resumes"))
    except Exception as error:  # noqa: BLE001 - every error gets an exit code; committed parts stay
        if stopped := stop_behind(error):
            _exit(FAILED, str(stopped))
        _exit(*_code_and_message(error))


def _usage_message(error: Any) -> list[str]:
    """Return what is wrong with the command line, and how to see what is right, in lines."""
    context, message = error.ctx, error.format_message().removeprefix("Invalid value: ").replace("Value error, ", "")
    message = message[:1].lower() + message[1:] if message[1:2].islower() else message
    if type(error).__name__ == "NoSuchOption":
        options = [name for parameter in context.command.params for name in parameter.opts]
        message = f"there is no option {error.option_name}{did_you_mean(error.option_name, options)}"
    return [message, f"`{context.command_path} --help` shows the usage"] if context else [message]


class Command(TyperCommand):
    """A command whose errors are reported in one way, also those of the command line, and have exit codes."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with reported_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        with reported_errors():
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help without the `--no-` forms: with their column, names do not fit into 80 columns."""
        for parameter in self.params:
            parameter.secondary_opts = []
        super().format_help(ctx, formatter)


class Program(typer.Typer):
    """A program whose process may have standard streams that are closed, and ends in time after a signal."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tolerate_closed_streams()
        with ended_in_time():
            return super().__call__(*args, **kwargs)


def app(command: Callable[..., None], name: str | None = None) -> Program:
    """Return the program of one verb, which `python -m jobs.<verb>` runs."""
    program = Program(add_completion=False, pretty_exceptions_enable=False)
    program.command(name, cls=Command)(command)
    return program


def add_left_out(table: PlainTable, listed: "ListedInputs") -> None:
    """Add the rows about entries of INPUT that are left out, one per reason."""
    lines = listed.lines() or ["0"]
    if not listed.complete:
        lines.append("so far: INPUT was listed up to the last unit that --limit allows")
    for line in lines:
        table.add_row("left out", line)
    for line in listed.unnamed_lines():
        table.add_row("kept columns null", line)


def _code_and_message(error: Exception) -> tuple[int, *tuple[str, ...]]:
    """Return the exit code and the lines of an error."""
    if isinstance(error, ImportError):
        return WRONG_USAGE, f"the installation is incomplete: {error}; install perceiver-pipeline again"
    # Imported here: help and usage errors need neither torch nor Ray.
    from jobs.unexpected_errors import describe_unexpected, log_notice
    from pipeline.checkpoints import CheckpointError
    from pipeline.runtime.errors import RunFailed, Stalled, TooMuchQuarantined, UsageError
    from pipeline.storage import AccessError, StorageError

    if isinstance(error, UsageError):
        return WRONG_USAGE, *error.lines
    if isinstance(error, AccessError | CheckpointError):
        return WRONG_USAGE, str(error)
    if isinstance(error, TooMuchQuarantined):
        return TOO_MUCH_QUARANTINED, str(error)
    if isinstance(error, RunFailed | StorageError):
        cause = error.__cause__
        notice = "" if cause is None or isinstance(cause, AccessError | StorageError | Stalled) else log_notice(cause)
        return FAILED, f"{error}{notice}"
    return FAILED, *describe_unexpected(error)


def report_error(message: str, *more: str) -> None:
    """Print an error on standard error, without secrets."""
    print_error([redact(line) for line in (message, *more)])


def _exit(code: int, message: str, *more: str) -> NoReturn:
    report_error(message, *more)
    sys.exit(code)

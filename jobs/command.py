"""What every verb shares: parameters from a pydantic model's fields, and exit codes from what went wrong."""

import inspect
import sys
import traceback
import types
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
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


M = TypeVar("M", bound=BaseModel)


def app(command: Callable[..., None]) -> typer.Typer:
    """A program of one verb: what `python -m jobs.<verb>` runs."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(command)
    return program


def from_options(model: type[M], arguments: tuple[str, ...]) -> Callable[[Callable[[M], None]], Callable[..., None]]:
    """Turns a function of `model` into a command with one parameter a field: `arguments` by place, the rest by name."""

    def decorate(body: Callable[[M], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            options = _checked(model, given)
            with_exit_code(lambda: body(options))

        command.__doc__ = body.__doc__
        fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in arguments)
        parameters = [_parameter(name, field, name in arguments) for name, field in fields]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def with_exit_code(body: Callable[[], None]) -> None:
    """Run `body`; whatever ends it is told on standard error in words, and becomes the exit code."""
    try:
        body()
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


def _checked(model: type[M], given: dict[str, Any]) -> M:
    """The options; what pydantic finds wrong is said in the words of the command line."""
    try:
        return model(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = [f"--{str(wrong['loc'][0]).replace('_', '-')}: {wrong['msg']}" for wrong in error.errors()]
        raise typer.BadParameter("; ".join(dict.fromkeys(lines))) from None


def _parameter(name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    kind = _cli_type(field.annotation)
    if positional:
        how: Any = typer.Argument(help=field.description, show_default=False)
    else:
        how = typer.Option(flag, help=field.description)
    default = inspect.Parameter.empty if field.is_required() else field.default
    if default is not inspect.Parameter.empty and kind is str and default is not None:
        default = str(default)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, how])


def _cli_type(annotation: Any) -> Any:
    """The type that the command line reads: unions of words and numbers are text, which the model then checks."""
    if get_origin(annotation) is Annotated:
        return _cli_type(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) > 1 or get_origin(members[0]) is Literal:
        return str
    return _cli_type(members[0]) | None

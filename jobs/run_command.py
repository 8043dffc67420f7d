"""The command line of a run: one parameter for each of its options, with a job file beneath what is typed."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from jobs.cli_support import with_exit_code
from pipeline.runtime.job_file import read_job
from pipeline.runtime.options import RunOptions

ARGUMENTS = ("task", "input", "output")  # by place, the rest by name
_JOB = "A job file, by path or URI: YAML with these options. What is typed here goes before what it says."


def from_options(body: Callable[[RunOptions], None]) -> Callable[..., None]:
    """Turns a function of a run's options into a command with a parameter for each of them, and `--job`."""

    def command(context: typer.Context, job: str | None, **given: Any) -> None:
        typed = {name: value for name, value in given.items() if _is_typed(context, name)}
        with_exit_code(lambda: body(_options(job, typed)))

    command.__doc__ = body.__doc__
    fields = sorted(RunOptions.model_fields.items(), key=lambda item: item[0] not in ARGUMENTS)
    parameters = [_parameter(name, field) for name, field in fields]
    parameters.insert(len(ARGUMENTS), _keyword("job", str | None, None, typer.Option("--job", help=_JOB)))
    parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _options(job: str | None, typed: dict[str, Any]) -> RunOptions:
    """The options of the file and those typed over it; what is wrong with these is said in the command line's words."""
    given = _over(read_job(job) if job is not None else {}, typed)
    try:
        return RunOptions(**given)
    except ValidationError as error:
        lines = [f"{_word(wrong['loc'])}: {wrong['msg'].removeprefix('Value error, ')}" for wrong in error.errors()]
        if not given.get("input") and not given.get("from_latents"):
            lines.insert(0, "INPUT: Field required, or --from-latents")
        raise typer.BadParameter("; ".join(dict.fromkeys(lines))) from None


def _over(file: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Both, what is typed first. With latents in place of an input, two arguments are TASK and OUTPUT."""
    file, typed = dict(file), dict(typed)
    if typed.get("from_latents", file.get("from_latents")) and "input" in typed and "output" not in typed:
        typed["output"] = typed.pop("input")
    for one, other in (("input", "from_latents"), ("from_latents", "input")):
        if one in typed:  # there is one of them in a run
            file.pop(other, None)
    return file | typed


def _word(loc: tuple[int | str, ...]) -> str:
    """What a person types for the option where pydantic found something; what has no place is between two inputs."""
    name = str(loc[0]) if loc else "input"
    return name.upper() if name in ARGUMENTS else f"--{name.replace('_', '-')}"


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Of one option. A value that must be given is looked for when the job file was read."""
    kind, flag = _cli_type(field.annotation), name.replace("_", "-")
    if name in ARGUMENTS:
        how = typer.Argument(metavar=name.upper(), help=field.description, show_default=False)
        return _keyword(name, str | None, None, how)
    needed = " Needed, here or in the job file." if field.is_required() else ""
    how = typer.Option(f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}", help=f"{field.description}{needed}")
    if field.is_required() or field.default in (None, ()):
        return _keyword(name, kind | None, None, how)
    return _keyword(name, kind, str(field.default) if kind is str else field.default, how)


def _keyword(name: str, kind: Any, default: Any, how: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, how])


def _cli_type(annotation: Any) -> Any:
    """The type that the command line reads: lists and unions of words and numbers are text, which the model checks."""
    if get_origin(annotation) is Annotated:
        return _cli_type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return str
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    return str if len(members) > 1 or get_origin(members[0]) is Literal else _cli_type(members[0])

"""Make a command from the options of a run: one parameter per option, over the values of a job file."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from pipeline.runtime.job_file import read_job
from pipeline.runtime.option_errors import describe_errors
from pipeline.runtime.options import InHelp, RunOptions

ARGUMENTS = ("task", "input", "output")
NAMED_OUTPUT = "named_output"
_OUTPUT = "Another way to give OUTPUT, by name."
_JOB = (
    "Job file, by path or URI: YAML with any of these options. Command-line options override it; --no-latents, for "
    "example, overrides `latents: true`."
)


def from_options(body: Callable[[RunOptions], None]) -> Callable[..., None]:
    """Turn a function of a run's options into a command with a parameter for each of them, and `--job`."""

    def command(context: typer.Context, job: str | None, **values: Any) -> None:
        typed = {name: value for name, value in values.items() if is_typed(context, name)}
        body(merge_options(job, typed))

    command.__doc__ = body.__doc__
    fields = RunOptions.model_fields
    parameters = [
        _parameter("context", typer.Context, inspect.Parameter.empty),
        *(_argument(name, fields[name]) for name in ARGUMENTS),
        _parameter(NAMED_OUTPUT, Annotated[str | None, typer.Option("--output", metavar="OUTPUT", help=_OUTPUT)], None),
        _parameter("job", Annotated[str | None, typer.Option("--job", metavar="FILE", help=_JOB)], None),
        *(_option(name, field) for name, field in fields.items() if name not in ARGUMENTS),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _with_named_output(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is typed with `--output` as OUTPUT."""
    values = dict(typed)
    if (named := values.pop(NAMED_OUTPUT, None)) is not None:
        if values.get("output", named) != named:
            raise typer.BadParameter(f"OUTPUT ({values['output']}) and --output ({named}) differ: give one of them")
        values["output"] = named
    return values


def is_typed(context: typer.Context, name: str) -> bool:
    """Return whether an option is on the command line, not a default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def merge_options(job: str | None, typed: dict[str, Any]) -> RunOptions:
    """Return the options of the job file, if there is one, overridden by those on the command line."""
    values = _override(read_job(job) if job is not None else {}, _with_named_output(typed))
    try:
        return RunOptions(**values)
    except ValidationError as error:
        mistakes = describe_errors(error, _spell)
        if not values.get("input") and not values.get("from_latents"):
            mistakes.pop("", None)  # the same by the names of fields
            mistakes = {"": "INPUT is required unless --from-latents is given"} | mistakes
        raise typer.BadParameter("; ".join(mistakes.values())) from None


def _override(file: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both. With --from-latents in place of an input, two arguments are TASK and OUTPUT."""
    file, typed = dict(file), dict(typed)
    if typed.get("from_latents", file.get("from_latents")) and "input" in typed and "output" not in typed:
        typed["output"] = typed.pop("input")
    for one, other in (("input", "from_latents"), ("from_latents", "input")):
        if one in typed:  # a run has one of them
            file.pop(other, None)
    return file | typed


def _spell(name: str) -> str:
    """Return the name of an option as it is written on the command line."""
    return name.upper() if name in ARGUMENTS else f"--{name.replace('_', '-')}"


def _argument(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return a positional parameter; it may be missing here and stand in the job file."""
    how = typer.Argument(metavar=name.upper(), help=field.description, show_default=False)
    return _parameter(name, Annotated[str | None, how], None)


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return a named parameter. All but switches are text here, which the model parses and checks."""
    shown = next(note for note in field.metadata if isinstance(note, InHelp))
    flag, is_switch = _spell(name), field.annotation is bool
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ("N",)  # N: a number
    example = f" Example: {field.examples[0]!r}." if field.examples else ""
    required = " Required, here or in the job file." if field.is_required() else ""
    how = typer.Option(
        f"{flag}/--no-{flag[2:]}" if is_switch else flag,
        metavar="" if is_switch else shown.metavar or "|".join(map(str, choices)),
        help=f"{field.description}{example}{required}",
        rich_help_panel=shown.panel,
        show_default=not is_switch,
    )
    if is_switch:
        return _parameter(name, Annotated[bool, how], field.default)
    has_default = not field.is_required() and field.default not in (None, ())
    default = field.default if isinstance(field.default, str) else f"{field.default:g}" if has_default else None
    return _parameter(name, Annotated[str | None, how], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

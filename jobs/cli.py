"""`perceiver`: all verbs. Each is imported when it is called, so that help and status start fast."""

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.cli_support import Program, reported_errors
from jobs.cli_support import app as program_of
from pipeline.formatting import did_you_mean
from pipeline.terminal import print_line

VERBS = ("run", "plan", "status", "report", "export", "probe", "compare", "submit", "verify", "bench", "demo")


class _Verbs(TyperGroup):
    """The verbs, each from its own module."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with reported_errors():
            return super().make_context(*args, **kwargs)

    def get_command(self, ctx: object, cmd_name: str):  # type: ignore[no-untyped-def]  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"jobs.{cmd_name}")
        return typer.main.get_command(program_of(module.command, cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb, its name and its arguments. Fail with the names of all verbs for another word."""
        if args[0] not in VERBS:
            ctx.fail(f"there is no verb {args[0]!r}{did_you_mean(args[0], VERBS)}; the verbs are {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with reported_errors():  # of the import of a verb, and for a word that is not one
            return super().invoke(ctx)


app = Program(cls=_Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"perceiver-pipeline {version('perceiver-pipeline')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Batch inference for Perceiver IO: text, images and video in, typed Parquet out.

    perceiver run image-classification photos/ labels/ \\
      --checkpoint deepmind/vision-perceiver-fourier

    `perceiver VERB --help` lists the options and examples of a verb.
    """


if __name__ == "__main__":
    app()

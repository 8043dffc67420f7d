"""`perceiver`: all verbs. Each is imported when it is called, so that help and status start fast."""

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.cli_support import app as program_of
from jobs.cli_support import redacted_usage_errors

VERBS = ("run", "plan", "status", "report", "export", "submit", "verify", "bench", "demo")


class _Verbs(TyperGroup):
    """The verbs, each from its own module."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: object, cmd_name: str):  # type: ignore[no-untyped-def]  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"jobs.{cmd_name}")
        return typer.main.get_command(program_of(module.command, cmd_name))

    def invoke(self, ctx: Any) -> Any:
        with redacted_usage_errors():  # for a word that is not a verb
            return super().invoke(ctx)


app = typer.Typer(cls=_Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"perceiver-pipeline {version('perceiver-pipeline')}")
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

"""`perceiver`: every verb. Each is imported when it is called, so that help and status stay quick."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from jobs.cli_support import app as program_of
from jobs.cli_support import discreet

VERBS = ("run", "plan", "status", "verify", "bench", "submit", "demo")


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
        with discreet():  # of words that are no verb
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Batch inference for Perceiver IO: text, images and video in, typed Parquet out.",
)


@app.callback()
def _root() -> None:
    """Batch inference for Perceiver IO: text, images and video in, typed Parquet out."""


if __name__ == "__main__":
    app()

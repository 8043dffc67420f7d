"""Lines and tables on a terminal that show every text as it is: nothing in it is markup or controls the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.visible import visible_line


def plain(text: str, style: str = "") -> Text:
    """Return a text for rich, in one line of visible characters, which a narrow place folds and never cuts."""
    return Text(visible_line(text), style=style, overflow="fold")


def print_line(line: str, *, console: Console | None = None) -> None:
    """Print one line, by default on standard output. A terminal wraps it; it can be copied as a whole."""
    (console or Console()).print(plain(line), soft_wrap=True)


def print_error(lines: Sequence[str]) -> None:
    """Print an error on standard error."""
    console = Console(stderr=True)
    for number, line in enumerate(lines):
        mark = Text() if number else Text("error: ", style="bold red")
        console.print(Text.assemble(mark, plain(line)), soft_wrap=True)


def print_table(table: RenderableType) -> None:
    """Print a PlainTable, or several in a Group, on standard output."""
    Console().print(table)


class PlainTable(Table):
    """A table of rich whose title and cells are plain text; cells that are not strings are rendered by rich."""

    def __init__(self, *columns: Any, title: str, **how: Any) -> None:
        super().__init__(*columns, title=plain(title, style="table.title"), title_justify="left", **how)

    def add_row(self, *cells: RenderableType | None, **how: Any) -> None:
        """Add a row."""
        super().add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells), **how)

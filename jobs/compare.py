"""`perceiver compare`: what changed between two runs over the same inputs."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli_support import app
from pipeline.terminal import PlainTable, print_line, print_table

if TYPE_CHECKING:
    from pipeline.comparison import Comparison


def command(
    a: Annotated[str, typer.Argument(metavar="OUTPUT_A", help="OUTPUT of a run: a folder or URI.")],
    b: Annotated[str, typer.Argument(metavar="OUTPUT_B", help="OUTPUT of another run of the same task.")],
    dest: Annotated[
        str | None,
        typer.Argument(
            metavar="DEST",
            help="Folder or URI for comparison.html and differences.parquet. Default: print the summary only.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Known labels to compare with. Default: the column known_label.", show_default=False
        ),
    ] = None,
) -> None:
    """Compare two runs over the same inputs, with two checkpoints, precisions or versions.

    Units are joined by id. For labels: agreement, Cohen's kappa, which labels changed into which, and where labels are
    known the accuracy of both. For flow, clips, masks and embeddings: how far they are apart.

    Examples:

    perceiver compare labels-1/ labels-2/

    perceiver compare s3://bucket/labels-1 s3://bucket/labels-2 changes/

    perceiver compare labels-1/ labels-2/ --labels labels.csv
    """
    from pipeline.comparison import compare
    from pipeline.comparison.destination import PAGE, TABLE
    from pipeline.storage import Store

    found = compare(a, b, dest, labels=labels)
    print_table(_settings(found))
    for line in found.describe():
        print_line(line)
    if dest is None:
        print_line("next: name a DEST for a page with examples and a table of all differences")
    else:
        for key in (PAGE, TABLE):
            print_line(Store(dest).uri_of(key))


def _settings(found: "Comparison") -> PlainTable:
    """Return the table of what the runs were made with, where it differs."""
    table = PlainTable("", "A", "B", title=found.task)
    table.add_row("output", found.a.output, found.b.output)
    table.add_row("units", found.a.state, found.b.state)
    for each in found.settings:
        table.add_row(each.name, each.a, each.b)
    return table


if __name__ == "__main__":
    app(command)()

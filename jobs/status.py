"""`perceiver status`: progress of a run, from OUTPUT alone."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from jobs.cli_support import add_left_out, app
from pipeline.formatting import count, duration, size

if TYPE_CHECKING:
    from pipeline.runtime.driver.status import Status


def command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="OUTPUT of the run: a folder or URI.")],
) -> None:
    """Show the progress of the run in OUTPUT: shards, rows, quarantined units, rate.

    Everything is read from OUTPUT; no cluster is needed.

    Example:

    perceiver status s3://bucket/labels
    """
    from pipeline.runtime.driver.status import status
    from pipeline.storage import Store

    Console().print(_table(status(Store(output))))


def _table(known: "Status") -> Table:
    table = Table(
        title=f"{known.run.fingerprint['head']} of {known.run.input}", show_header=False, title_justify="left"
    )
    table.add_row("output", known.output)
    table.add_row("run", f"{known.run.run}, {'finished' if known.finished else 'not finished'}")
    segments = f"{count(len(known.plan.segments))} segments"
    table.add_row("shards", f"{count(known.shards_done)} of {count(known.plan.shards)} in {segments}")
    table.add_row("rows", count(known.rows))
    table.add_row("quarantined", count(known.quarantined))
    if known.listed is not None:
        add_left_out(table, known.listed)
    units = known.plan.units
    table.add_row("units", "known once all inputs are opened" if units is None else count(units))
    table.add_row("size", size(known.bytes))
    if known.units_per_second is not None:
        table.add_row("rate", f"{known.units_per_second:.3g} units/s since the last start")
    if known.seconds_left:
        table.add_row("left", duration(known.seconds_left))
    return table


if __name__ == "__main__":
    app(command)()

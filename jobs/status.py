"""`perceiver status`: progress of a run, from OUTPUT alone."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from jobs.cli_support import add_left_out, app
from pipeline.formatting import count, counted, duration, size
from pipeline.terminal import PlainTable, print_line, print_table

if TYPE_CHECKING:
    from pipeline.runtime.driver.status import Status


def command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="OUTPUT of the run: a folder or URI.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing the progress until the run is finished; Ctrl-C leaves it.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECONDS", min=1, max=86_400, help="With --watch: seconds from look to look."
        ),
    ] = 10.0,
) -> None:
    """Show the progress of the run in OUTPUT: shards, rows, quarantined units, rate.

    Everything is read from OUTPUT; no cluster is needed.

    Example:

    perceiver status s3://bucket/labels --watch
    """
    from pipeline.runtime.driver.status import check_other_records, status
    from pipeline.storage import Store

    store = Store(output)
    known = status(store)
    check_other_records(store, known)
    if not watch:
        print_table(_table(known))
        _print_next(known)
        return
    with suppress(KeyboardInterrupt), Live(_table(known), auto_refresh=False) as live:
        while not known.finished:
            time.sleep(interval)
            known = status(store)
            live.update(_table(known), refresh=True)


def _print_next(known: "Status") -> None:
    """Say what can be typed next, below the table, where a long command can be copied."""
    if known.finished or known.is_running:
        return
    print_line(f"next: the same command resumes the run: {known.resume_command()}")


def _table(known: "Status") -> PlainTable:
    table = PlainTable(title=f"{known.run.fingerprint['head']} of {known.run.input}", show_header=False)
    table.add_row("output", known.output)
    table.add_row("run", f"{known.run.run}, {'finished' if known.finished else 'not finished'}")
    if not known.finished:
        table.add_row("activity", known.activity())
    segments = counted(len(known.plan.segments), "segment")
    table.add_row("shards", f"{count(known.shards_done)} of {count(known.plan.shards)} in {segments}")
    table.add_row("rows", count(known.rows))
    table.add_row("quarantined", count(known.quarantined))
    if known.listed is not None:
        add_left_out(table, known.listed)
    units = known.plan.units
    table.add_row("units", "known once all inputs are opened" if units is None else count(units))
    table.add_row("size", size(known.bytes))
    if known.units_per_second is not None:
        table.add_row("rate", f"{known.units_per_second:,.1f} units/s since the last start")
    if known.seconds_left:
        table.add_row("left", f"{duration(known.seconds_left)} at this rate")
    return table


if __name__ == "__main__":
    app(command)()

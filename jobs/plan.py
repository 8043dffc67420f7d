"""`perceiver plan`: plan a run and estimate its time and size."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from jobs.cli_support import app
from jobs.run_command import from_options
from pipeline.formatting import count, duration, size, unit_duration
from pipeline.runtime.options import RunOptions

if TYPE_CHECKING:
    from pipeline.runtime.driver.estimate import Estimate


@from_options
def command(options: RunOptions) -> None:
    """Plan a run without starting it; estimate its time and size from a measured sample.

    `perceiver run` with the same options then carries out this plan.

    Example:

    perceiver plan image-classification photos/ labels/ \\
      --checkpoint deepmind/vision-perceiver-fourier
    """
    from pipeline.runtime.driver.estimate import estimate

    Console().print(_table(options, estimate(options)))


def _table(options: RunOptions, known: "Estimate") -> Table:
    table = Table(title=f"{options.task} into {options.output}", show_header=False, title_justify="left")
    guess = f"about {count(known.estimated_units)}, " if known.estimated_units else ""
    units = f"{guess}known once the inputs are opened" if known.units is None else count(known.units)
    left = count(known.shards - known.shards_done)
    table.add_row("units", units)
    table.add_row("shards", f"{count(known.shards)} in {count(known.segments)} segments, {left} left")
    if known.changed:
        table.add_row("changed inputs", f"{count(known.changed)}, earlier predictions kept")
    table.add_row("replicas", f"{known.replicas} on {known.device}, {known.dtype}")
    quarantined = f", {known.sample_quarantined} quarantined" if known.sample_quarantined else ""
    table.add_row("sample", f"{known.sample} units{quarantined}")
    table.add_row("to load a unit", unit_duration(known.load_seconds))
    table.add_row("to predict a unit", unit_duration(known.predict_seconds))
    if known.seconds is not None and known.bytes is not None:
        table.add_row("time left", duration(known.seconds))
        table.add_row("size of all parts", size(known.bytes))
    return table


if __name__ == "__main__":
    app(command)()

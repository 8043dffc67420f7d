"""`perceiver plan`: plan a run and estimate its time and size."""

from typing import TYPE_CHECKING

from jobs.cli_support import add_left_out, app
from jobs.run_command import from_options
from pipeline.formatting import count, counted, duration, size, unit_duration
from pipeline.runtime.early_checks import check_early
from pipeline.runtime.options import RunOptions
from pipeline.terminal import PlainTable, print_line, print_table

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
    check_early(options)  # before libraries that take seconds to load
    from pipeline.runtime.driver.display import Display
    from pipeline.runtime.driver.estimate import estimate

    known = estimate(options, Display.of(options))
    for note in known.notes:
        print_line(note)
    print_table(_table(options, known))


def _table(options: RunOptions, known: "Estimate") -> PlainTable:
    table = PlainTable(title=f"{options.task} into {options.output}", show_header=False)
    plan, sample, resources = known.plan, known.sample, known.resources
    guess = f"about {count(plan.estimated_units)}, " if plan.estimated_units else ""
    table.add_row("units", f"{guess}known once the inputs are opened" if plan.units is None else count(plan.units))
    left = count(plan.shards - known.shards_done)
    table.add_row("shards", f"{count(plan.shards)} in {counted(len(plan.segments), 'segment')}, {left} left")
    if plan.changed:
        table.add_row("changed inputs", f"{count(plan.changed)}, earlier predictions kept")
    add_left_out(table, known.listed)
    table.add_row("replicas", f"{resources.replicas} on {resources.device}, {resources.dtype}")
    quarantined = f", {sample.quarantined} quarantined" if sample.quarantined else ""
    table.add_row("sample", f"{counted(sample.units, 'unit')}{quarantined}")
    table.add_row("to load a unit", unit_duration(sample.load_seconds))
    table.add_row("to predict a unit", unit_duration(sample.predict_seconds))
    table.add_row("to write a unit", unit_duration(sample.write_seconds))
    if known.seconds is not None and known.bytes is not None:
        table.add_row("time left", f"{duration(known.seconds)}, and {duration(known.start_seconds)} to start")
        table.add_row("size of all parts", size(known.bytes))
    return table


if __name__ == "__main__":
    app(command)()

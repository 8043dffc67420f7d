"""A run and the report that ends it, for the command line and for Python."""

from collections.abc import Callable
from contextlib import suppress

from rich.console import Console

from pipeline.report.marker import marker_after
from pipeline.report.target import Target
from pipeline.runtime.driver.run import execute
from pipeline.runtime.errors import TooMuchQuarantined
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.manifest import Summary
from pipeline.storage import AccessError, StorageError, Store


def execute_and_report(
    options: RunOptions, show: Callable[[str | None], None], *, console: Console | None = None
) -> tuple[Summary, str | None]:
    """Execute a run and write its report; return the summary, and the line that names the report.

    The line is None if the options leave the report out. If too much is quarantined, the report, which shows why, is
    written before TooMuchQuarantined is raised, and `show` gets its line. Other arguments and errors: those of
    `execute`.
    """
    try:
        summary = execute(options, console=console)
    except TooMuchQuarantined:
        show(_report(options))
        raise
    return summary, _report(options, summary)


def _report(options: RunOptions, summary: Summary | None = None) -> str | None:
    """Write the report and return the line that names it; a report that a run with this end has already is kept."""
    if not options.report:
        return None
    with suppress(AccessError, StorageError):  # writing it then says why it fails
        target = Target(Store(options.output))
        if summary is not None and target.has_marker(marker_after(summary)):
            return f"report: {target.uri}"
    from pipeline.report.report import report_line  # with libraries of plots, which take a second to import

    return report_line(options.output)

"""A run and the report that ends it, for the command line and for Python."""

from collections.abc import Callable

from rich.console import Console

from pipeline.runtime.driver.run import execute
from pipeline.runtime.errors import TooMuchQuarantined
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.manifest import Summary


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
    return summary, _report(options)


def _report(options: RunOptions) -> str | None:
    if not options.report:
        return None
    from pipeline.report.report import report_line  # with libraries of plots, which take a second to import

    return report_line(options.output)

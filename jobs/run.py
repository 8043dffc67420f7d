"""`perceiver run`: predict every unit of INPUT once and write typed Parquet to OUTPUT."""

from rich.console import Console

from jobs.cli_support import app
from jobs.run_command import from_options
from pipeline.formatting import count, duration, size
from pipeline.runtime.options import RunOptions


@from_options
def command(options: RunOptions) -> None:
    """Predict every unit of INPUT once and write OUTPUT/predictions/*.parquet.

    The same command resumes an unfinished run and, after a finished one, predicts new files in INPUT.

    Examples:

    perceiver run image-classification photos/ labels/ \\
      --checkpoint deepmind/vision-perceiver-fourier --replicas 2

    perceiver run text-classification reviews.csv labels/ \\
      --checkpoint models/sentiment --column review --keep-columns stars

    perceiver run --job jobs/optical-flow.yaml --limit 100
    """
    from pipeline.runtime.driver.run import execute
    from pipeline.runtime.errors import TooMuchQuarantined

    try:
        summary = execute(options, leave=True)
    except TooMuchQuarantined:
        _print_report(options)  # which shows why
        raise
    resumed = f", {count(summary.resumed)} of them earlier" if summary.resumed else ""
    Console().print(
        f"done: {count(summary.rows)} rows and {count(summary.quarantined)} quarantined, "
        f"of {count(summary.units)} units, {count(summary.listed.left_out_total)} left out, "
        f"in {count(summary.shards)} parts{resumed} ({size(summary.bytes)}), {duration(summary.seconds)}\n"
        f"{summary.output}/predictions",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _print_report(options)


def _print_report(options: RunOptions) -> None:
    """Write the report, unless the options leave it out, and print where it is, or why there is none."""
    if options.report:
        from pipeline.report.report import report_line

        Console().print(report_line(options.output), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    app(command)()

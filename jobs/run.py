"""`perceiver run`: predict every unit of INPUT once and write typed Parquet to OUTPUT."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.cli_support import app
from jobs.run_command import from_options
from pipeline.formatting import count, counted, duration, size
from pipeline.runtime.early_checks import check_early
from pipeline.runtime.options import RunOptions
from pipeline.storage import AccessError, StorageError
from pipeline.terminal import print_line
from pipeline.visible import shell_command

NAMED = 3  # quarantined units in the result
MAX_LOOKED_THROUGH = 1000
MAX_ROWS_LOOKED_THROUGH = 100_000  # for known labels: their columns are read

if TYPE_CHECKING:
    from pipeline.runtime.records.manifest import Summary

_EXPORTS = {"optical-flow": ("colors/", "flow-video"), "multimodal-autoencoding": ("videos/", "mp4")}
"""DEST and format of the export that a task's user is most likely to want, if it is not csv."""


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
    check_early(options)  # before libraries that take seconds to load
    from pipeline.report.reported_run import execute_and_report

    summary, report = execute_and_report(options, _print)
    if options.log_format == "json":
        result = asdict(summary) | {"listed": summary.listed.totals(), "report": report}
        print_line(json.dumps({"event": "done", **result}))
        return
    for line in (
        *_result(summary),
        *_quarantined(summary),
        *_known_labels(options, summary),
        report,
        *_next_steps(options, summary),
    ):
        _print(line)


def _result(summary: "Summary") -> list[str]:
    """Say what was made and where it is."""
    resumed = f", {count(summary.resumed)} of them earlier" if summary.resumed else ""
    return [
        f"done: {counted(summary.rows, 'row')} and {count(summary.quarantined)} quarantined, "
        f"of {counted(summary.units, 'unit')}, {count(summary.listed.left_out_total)} left out, "
        f"in {counted(summary.shards, 'part')}{resumed} ({size(summary.bytes)}), {duration(summary.seconds)}",
        f"{summary.output}/predictions",
    ]


def _quarantined(summary: "Summary") -> list[str]:
    """Name the first quarantined units with their reasons, unless there are too many to look through."""
    if not 0 < summary.quarantined <= MAX_LOOKED_THROUGH:
        return []
    from pipeline.results import open_run

    units = open_run(summary.output).quarantined().to_pylist()
    more = [f"             and {count(len(units) - NAMED)} more"] if len(units) > NAMED else []
    return [f"quarantined: {unit['id']}: {unit['message'] or unit['error']}" for unit in units[:NAMED]] + more


def _known_labels(options: RunOptions, summary: "Summary") -> list[str]:
    """Say which known labels do not count, unless there are too many rows to look through."""
    if not summary.rows or (options.labels, options.label_column, options.label_from) == (None, None, None):
        return []
    if summary.rows > MAX_ROWS_LOOKED_THROUGH:
        more = f"more than {count(MAX_ROWS_LOOKED_THROUGH)} rows"
        return [f"known labels: not compared with those of {more}; `perceiver export --to mistakes` does it"]
    from pipeline.results import open_run
    from pipeline.sources.label_files import read_label_file

    try:
        file = None if options.labels is None else read_label_file(options.labels)
        notes = open_run(summary.output).label_notes(file)
    except (AccessError, StorageError) as error:  # of the file, which the run had read; the run is done
        return [f"known labels: not checked again: {error}"]
    said = () if file is None else file.notes
    return [f"known labels: {note}" for note in notes if note not in said]


def _next_steps(options: RunOptions, summary: "Summary") -> list[str]:
    """Say what can be typed next."""
    rows = "rows.csv", "csv"
    dest, to = rows if options.points or options.outputs else _EXPORTS.get(options.task, rows)
    export = shell_command(["perceiver", "export", summary.output, dest, "--to", to])
    lines = [f"next: {export}, or in Python: open_run({summary.output!r})"]
    if summary.quarantined:
        lines.append("      the same command with --retry-quarantined tries the quarantined units again")
    return lines


def _print(line: str | None) -> None:
    if line is not None:
        print_line(line)


if __name__ == "__main__":
    app(command)()

"""`perceiver submit`: run a job file as a Ray job on a cluster."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from jobs.cli_support import FAILED, app, report_error
from pipeline.terminal import print_line
from pipeline.visible import visible_text

Job = Annotated[str, typer.Argument(metavar="JOB", help="Job file, by path or URI, as for `run --job`.")]
Address = Annotated[str, typer.Option(metavar="URL", help="Dashboard of the cluster: http://HEAD:8265.")]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait",
        metavar="",
        show_default=False,
        help="Wait for the end of the job and show its log (default). --no-wait returns once the job is submitted.",
    ),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the job. Default: its task and random digits.")]


def command(job: Job, address: Address, wait: Wait = True, submission_id: Name = None) -> None:
    """Run a job file on a Ray cluster where this project is installed.

    Shows the job's log and exits with its exit code. Ctrl-C leaves the job running.

    Example:

    perceiver submit jobs/fill-mask.yaml --address http://HEAD:8265
    """
    from pipeline.runtime.ray_backend.submit import follow, submit

    taken = submit(job, address, submission_id)
    print_line(f"submitted {taken.id}")
    if not wait:
        for line in taken.commands:
            print_line(line)
        return
    try:
        ended = follow(taken, _print_piece)
    except KeyboardInterrupt:
        for line in ("", f"{taken.id} keeps running.", *taken.commands):
            print_line(line, console=Console(stderr=True))
        sys.exit(FAILED)
    if ended.message:
        report_error(f"{taken.id} {ended.message}")
    sys.exit(ended.code)


def _print_piece(piece: str) -> None:
    """Print a piece of the job's log, which need not end with a line."""
    sys.stdout.write(visible_text(piece))
    sys.stdout.flush()


if __name__ == "__main__":
    app(command)()

"""`perceiver submit`: run a job file as a Ray job on a cluster."""

import sys
from typing import Annotated

import typer

from jobs.cli_support import FAILED, app, report_error

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
    print(f"submitted {taken.id}", flush=True)
    if not wait:
        print(taken.commands)
        return
    try:
        ended = follow(taken, lambda piece: print(piece, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\n{taken.id} keeps running.\n{taken.commands}", file=sys.stderr)
        sys.exit(FAILED)
    if ended.message:
        report_error(f"{taken.id} {ended.message}")
    sys.exit(ended.code)


if __name__ == "__main__":
    app(command)()

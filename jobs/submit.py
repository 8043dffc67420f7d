"""`perceiver submit`: run a job file on a cluster, as a Ray job."""

import sys
from typing import Annotated

import typer

from jobs.cli_support import FAILED, app, with_exit_code

Job = Annotated[str, typer.Argument(metavar="JOB", help="A job file, by path or URI, as `run --job` reads it.")]
Address = Annotated[str, typer.Option(help="Of the cluster's dashboard: http://HEAD:8265.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the job's log and exit as it does, or leave it.")]
Name = Annotated[str | None, typer.Option(help="What to call the job; by default its task and random digits.")]


def command(job: Job, address: Address, wait: Wait = True, submission_id: Name = None) -> None:
    """Run a job file on the cluster at ADDRESS, where this project is installed. Ctrl-C leaves the job running."""
    with_exit_code(lambda: _submit(job, address, submission_id, wait))


def _submit(job: str, address: str, submission_id: str | None, wait: bool) -> None:
    from pipeline.runtime.ray_backend.submit import follow, submit

    taken = submit(job, address, submission_id)
    print(f"submitted {taken.id}", flush=True)
    if not wait:
        print(f"to follow it: {taken.to_follow}\nto stop it:   {taken.to_stop}")
        return
    try:
        ended = follow(taken, lambda piece: print(piece, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\n{taken.id} goes on.\nto follow it: {taken.to_follow}\nto stop it:   {taken.to_stop}", file=sys.stderr)
        sys.exit(FAILED)
    if ended.message:
        print(f"{taken.id} {ended.message}", file=sys.stderr)
    sys.exit(ended.code)


if __name__ == "__main__":
    app(command)()

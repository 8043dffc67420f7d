"""Signals and closed standard streams, which reach a command in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable

from tests.situations.situation import SECONDS, Ended, Situation, World

GRACE = 20  # seconds until a command that is stopped must have ended
AGAIN = "the same command can be given again"
JOB = "task: fill-mask\ninput: s3://bucket/in\noutput: s3://bucket/out\ncheckpoint: s3://bucket/model\n"


def stopped_while_waiting(number: signal.Signals, *arguments: str) -> Callable[[World], Ended]:
    """Stop a verb while it waits for a server that does not answer. SERVER in arguments is its address."""

    def act(world: World) -> Ended:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(SECONDS)
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            (world.folder / "job.yaml").write_text(JOB)
            world.write_images(world.input, range(2))
            named = {"WORLD": str(world.folder), "SERVER": address, "MODEL": str(world.checkpoint)}
            store = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret"}
            filled = [_fill(argument, named) for argument in arguments]
            with world.started(*filled, environment=store) as process:
                server.accept()
                return stop(process, number)

    return act


def _fill(argument: str, named: dict[str, str]) -> str:
    for name, value in named.items():
        argument = argument.replace(name, value)
    return argument


def stopped_after(seconds: float, number: signal.Signals, *arguments: str) -> Callable[[World], Ended]:
    """Stop a verb that computes some seconds after its start."""

    def act(world: World) -> Ended:
        with world.started(*(_fill(argument, {"WORLD": str(world.folder)}) for argument in arguments)) as process:
            time.sleep(seconds)
            return stop(process, number)

    return act


def stop(process: subprocess.Popen[str], number: signal.Signals) -> Ended:
    process.send_signal(number)
    printed, _ = process.communicate(timeout=GRACE)
    return Ended(process.returncode, " ".join(printed.split()))


def redirected(shell: str, *arguments: str) -> Callable[[World], Ended]:
    """Run a verb over a finished OUTPUT with standard streams as the command line of a shell redirects them."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(6))
        first = world.run()
        assert first.code == 0, first.printed
        return world.process(*(_fill(argument, {"WORLD": str(world.folder)}) for argument in arguments), shell=shell)

    return act


S3 = "s3://bucket/out"
MODEL = ("--checkpoint", "s3://bucket/model")
STOPPED = {
    "status": (("status", S3), AGAIN),
    "report": (("report", S3), AGAIN),
    "export": (("export", S3, "WORLD/rows.csv", "--to", "csv"), AGAIN),
    "verify": (("verify", "image-classification", *MODEL), AGAIN),
    "submit": (("submit", "WORLD/job.yaml", "--address", "SERVER"), AGAIN),
    "run": (("run", "image-classification", "s3://bucket/in", S3, "--checkpoint", "MODEL"), "resumes the run"),
    "plan": (("plan", "image-classification", "WORLD/in", S3, "--checkpoint", "MODEL"), "resumes the run"),
}
INTERRUPTIONS = {
    f"{number.name} while {verb} waits for a server": Situation(
        act=stopped_while_waiting(number, *arguments),
        code=1,
        says=f"error: stopped by {number.name}; … {advice}",
        is_slow=(verb, number) not in {("status", signal.SIGTERM), ("submit", signal.SIGINT)},
    )
    for verb, (arguments, advice) in STOPPED.items()
    for number in (signal.SIGTERM, signal.SIGINT)
}
INTERRUPTIONS |= {
    f"{number.name} while {verb} computes": Situation(
        act=stopped_after(6, number, verb, *arguments), code=1, says=f"stopped by {number.name}; {advice}", is_slow=True
    )
    for verb, arguments, advice in (
        ("bench", ("image-classification", "--small", "--pipeline"), AGAIN),
        ("verify", ("image-classification", "--checkpoint", "demo"), AGAIN),
        ("demo", ("WORLD/demo",), "the same command"),
    )
    for number in (signal.SIGTERM, signal.SIGINT)
}
STATUS = "status", "WORLD/out"
INTERRUPTIONS |= {
    "closed standard output": Situation(act=redirected('"$@" >&-', *STATUS), code=0, says=""),
    "closed standard error": Situation(act=redirected('"$@" 2>&-', "status", "WORLD/no"), code=2, says=""),
    "nobody reads standard output": Situation(
        act=redirected('"$@" 2>&1 | head -c 5; exit ${PIPESTATUS[0]}', *STATUS), code=0, says="image", is_slow=True
    ),
    "full disk at standard output": Situation(
        act=redirected('"$@" >/dev/full', *STATUS),
        code=1,
        says="error: no space left on device (standard output): free space, or set TMPDIR to a folder on another disk",
        is_slow=True,
    ),
}

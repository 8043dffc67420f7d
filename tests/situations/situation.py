"""A situation that a command may meet: what is arranged, the exit code, and the sentence that says it.

`test_situations.py` runs every situation of the tables in this folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from typer.testing import CliRunner

from jobs.cli import app

SECONDS = 240  # timeout of a process, generous for a busy machine
SETTLE_SECONDS = 30  # in which the processes of a local cluster end after their driver
VARIABLE = "PERCEIVER_SITUATION"  # in the environment of every process that a situation starts


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it printed on both streams, in one line."""

    code: int
    printed: str


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A row of the table.

    Attributes:
        act: arranges the situation in a world and returns how the command that meets it ended.
        code: the exit code.
        says: what is printed: … stands for any text, WORLD for the folder of the world.
        is_slow: whether it runs only if slow tests are selected; so do all that start Ray, and those over 5 seconds.
    """

    act: Callable[[World], Ended]
    code: int
    says: str
    is_slow: bool = False

    def check(self, world: World) -> None:
        """Act, and assert that the command ends as the row says, with nothing left behind."""
        code, printed = self.act(world)
        printed = printed.replace(str(world.folder), "WORLD")
        assert code == self.code, printed
        assert re.search(in_order(self.says), printed), printed
        assert "Traceback" not in printed
        left = world.left_behind(SETTLE_SECONDS)
        assert left == [], left


@dataclass(frozen=True, kw_only=True)
class World:
    """A folder in which `in` is INPUT and `out` is OUTPUT, with a small image checkpoint.

    Attributes:
        folder: the folder.
        checkpoint: classifies images.
        write_images: `write_images(folder, numbers, damaged=())`.
        request: gives fixtures by name, such as `s3` or `faulty_s3`.
        environment: variables of the processes that are started, besides those of this one.
    """

    folder: Path
    checkpoint: Path
    write_images: Callable[..., None]
    request: pytest.FixtureRequest
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def input(self) -> Path:
        return self.folder / "in"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def run(self, *more: str, task: str = "image-classification") -> Ended:
        """Run `perceiver run` over INPUT in this process, its stages too: two images per shard."""
        flags = ("--checkpoint", str(self.checkpoint), "--shard-size", "2", "--no-report", "--trusted-inputs")
        return self.command("run", task, str(self.input), str(self.output), *flags, *more)

    def command(self, *arguments: str) -> Ended:
        """Run a verb in this process."""
        result = CliRunner().invoke(app, list(arguments))
        return Ended(result.exit_code, " ".join(result.output.split()))

    def process(self, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> Ended:
        """Run a verb in a process of its own, as a user does. options: those of `started`, and of `Popen`."""
        with self.started(*arguments, environment=environment, **options) as process:
            printed, _ = process.communicate(timeout=SECONDS)
        return Ended(process.returncode, " ".join((printed or "").split()))

    def started(
        self, *arguments: str, environment: Mapping[str, str] | None = None, shell: str = '"$@"', **options: Any
    ) -> subprocess.Popen[str]:
        """Start a verb in a process of its own. shell: the command line of bash in which "$@" is the verb."""
        variables = os.environ | self.environment | dict(environment or {}) | {VARIABLE: str(self.folder)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        verb = [sys.executable, "-m", "jobs.cli", *arguments]
        command = ["bash", "-c", f"exec {shell}" if shell == '"$@"' else shell, "bash", *verb]
        return subprocess.Popen(command, env=variables, **(streams | options))

    def left_behind(self, seconds: float = 0.0) -> list[str]:
        """Return the markers of drivers that did not end, and the processes that still run after so many seconds."""
        deadline = time.monotonic() + seconds
        while (found := self._left_now()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _left_now(self) -> list[str]:
        markers = [str(path) for path in self.output.glob("_run/drivers/*")]
        return markers + [" ".join(_command(process)) for process in psutil.process_iter() if self._is_own(process)]

    def _is_own(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(VARIABLE) == str(self.folder)
        except psutil.Error:  # gone, or another user's
            return False


def in_order(words: str) -> str:
    """Return a pattern for words in which … stands for any text."""
    return ".*".join(re.escape(part.strip()) for part in words.split("…"))


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return [f"process {process.pid}, which just ended"]

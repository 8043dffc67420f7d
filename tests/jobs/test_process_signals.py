"""Signals that reach the process of a command while Python cannot handle them, or after the verb has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from jobs.cli_support import app

IN_TIME = (
    "error: stopped by {}; the same command can be given again; processes of Ray that are left end by themselves\n"
)
IGNORED = """
import time
from jobs import process_signals
from pipeline.runtime.signals import stop_on_signals
process_signals.GRACE_SECONDS = 1.0
process_signals.stop_at_once()

class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)

with process_signals.ended_in_time(), stop_on_signals(process_ends=True):
    Slow()
    time.sleep(60)
"""
NATIVE = """
import hashlib, sys
from jobs import process_signals
from pipeline.runtime.signals import stop_on_signals
process_signals.GRACE_SECONDS = 1.0
process_signals.stop_at_once()
with process_signals.ended_in_time(), stop_on_signals(process_ends=True):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes without a look at signals
"""
ENDED = """
import atexit, sys, time
from jobs import process_signals
process_signals.stop_at_once()
atexit.register(time.sleep, 60)
atexit.register(print, "ready", flush=True)
with process_signals.ended_in_time():
    sys.exit(3)
"""
FINALIZED = """
import os, sys, time
from jobs import process_signals
process_signals.stop_at_once()

class Last:
    def __del__(self, write=os.write, sleep=time.sleep):  # by now Python has removed its handlers
        write(1, b"ready\\n")
        sleep(1)

last = Last()
sys.exit(3)
"""
ABORTING = """
import os, sys
from jobs import process_signals
process_signals.stop_at_once()

class Last:
    def __del__(self, abort=os.abort):
        abort()

last = Last()
with process_signals.ended_in_time():
    print("printed", end="")
    sys.exit(3)
"""
STOPPED = """
import sys, time
from jobs import process_signals
from pipeline.runtime.signals import Stopped, stop_on_signals
process_signals.stop_at_once()
with process_signals.ended_in_time():
    try:
        with stop_on_signals(process_ends=True):
            {before}
            print("ready", flush=True)
            time.sleep(60)
    except Stopped:
        time.sleep(1.5)
        sys.exit(1)
"""
CRASHING = STOPPED.format(before="import atexit, os; atexit.register(os.abort)")
ALARMED = STOPPED.format(before="import signal; signal.alarm(1)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        (NATIVE, 1, IN_TIME),
        (IGNORED, 1, IN_TIME),
        (ENDED, 3, ""),
        (FINALIZED, 3, ""),
        (CRASHING, 1, ""),
        (ALARMED, 1, ""),
    ],
    ids=["native code", "ignored exceptions", "ended", "finalized", "would crash at its end", "would abort"],
)
def test_process_ends_in_time_with_its_exit_code(number: signal.Signals, code: str, expected: int, says: str) -> None:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **streams) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)  # the native code runs
        process.send_signal(number)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == expected
    assert printed == says.format(number.name)


def test_process_keeps_its_exit_code_where_its_modules_abort_at_their_end() -> None:
    ended = subprocess.run([sys.executable, "-c", ABORTING], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "printed", "")


def test_package_that_another_program_imports_leaves_its_handlers() -> None:
    code = "import signal, jobs.cli; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"True\n"


def test_interrupt_of_native_code_has_the_words_of_its_signal() -> None:
    def verb() -> None:
        with suppress(KeyboardInterrupt):  # as native code of Ray does, which then raises one without words
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    result = CliRunner().invoke(app(verb), [])
    assert (result.exit_code, result.output) == (1, "error: stopped by SIGTERM; the same command can be given again\n")

"""Errors that no code expects: one sentence and a log file, whatever can be written on the machine."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import cli_support
from jobs.cli import app
from jobs.cli_support import app as program_of

SECRET = "canary-of-mine-12345"


def fail_with(error: Exception) -> tuple[int, str]:
    """Return the exit code, and what a verb prints that ends with this error."""

    def verb() -> None:
        raise error

    result = CliRunner().invoke(program_of(verb), [])
    return result.exit_code, result.output


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_traceback_and_versions_go_to_a_log_file_that_is_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", SECRET)
    code, printed = fail_with(KeyError(f"labels {SECRET}"))
    assert code == 1
    assert len(printed.splitlines()) == 1
    assert "error: perceiver did not expect this error: KeyError: 'labels ***'; its traceback" in printed
    path = Path(re.search(r"is in (\S+\.log)", printed)[1])
    assert path.parent == temporary
    assert path.stat().st_mode & 0o777 == 0o600
    log = path.read_text()
    assert "Traceback (most recent call last)" in log
    assert "test_unexpected_errors.py" in log
    assert re.search(r"^torch \d", log, re.MULTILINE)
    assert SECRET not in log + printed


def test_traceback_is_printed_if_no_log_file_can_be_written(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "missing"))
    code, printed = fail_with(ZeroDivisionError("division by zero"))
    first, *trace = printed.splitlines()
    assert code == 1
    assert first.endswith(
        "ZeroDivisionError: division by zero; no temporary folder can be written for a log file, so "
        "here is the traceback:"
    )
    assert trace[0] == "Traceback (most recent call last):"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on device (/data/x): free space, or set TMPDIR to a folder on another disk"),
        (errno.EACCES, "permission denied (/data/x): give this user access to it"),
        (errno.EROFS, "read-only file system (/data/x): make it writable, or use a folder that is"),
        (errno.EMFILE, "too many open files (/data/x): raise the limit, now "),
    ],
)
def test_errors_of_the_machine_have_words_and_no_log(number: int, words: str, temporary: Path) -> None:
    code, printed = fail_with(OSError(number, os.strerror(number), "/data/x"))
    assert code == 1
    assert printed.startswith(f"error: {words}")
    assert len(printed.splitlines()) == 1
    assert list(temporary.iterdir()) == []


def test_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr("jobs.cli.importlib.import_module", broken)
    result = CliRunner().invoke(app, ["status", "somewhere"])
    assert result.exit_code == cli_support.WRONG_USAGE
    assert "the installation is incomplete: No module named 'torch'; install perceiver-pipeline again" in result.output

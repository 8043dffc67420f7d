"""Errors that no code expects: a sentence for the user, and a log file with the traceback for a report of the fault."""

import errno
import os
import platform
import resource
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version

from pipeline.runtime.errors import reason
from pipeline.storage import redact

_PACKAGES = ("perceiver-pipeline", "ray", "torch", "transformers", "numpy", "pyarrow", "fsspec", "s3fs")


def describe_unexpected(error: Exception) -> list[str]:
    """Return the lines of an error: cause and remedy in one, and the traceback only if no log file can be written."""
    if words := _system_error(error):
        return [words]
    name, message = type(error).__name__, reason(error)
    cause = f"perceiver did not expect this error: {name if message == name else f'{name}: {message}'}"
    path, trace = _log(error)
    if path:
        return [f"{cause}; its traceback, for a report of the fault, is in {path}"]
    return [f"{cause}; no temporary folder can be written for a log file, so here is the traceback:", *trace]


def log_notice(cause: BaseException) -> str:
    """Write a log file about the cause of an error, and return what to add to its message."""
    path, _ = _log(cause)
    return f"; the traceback of the cause is in {path}" if path else ""


def _log(error: BaseException) -> tuple[str | None, list[str]]:
    """Write a redacted log file about the error. Return its path, None if none can be written, and the traceback."""
    trace = redact("".join(traceback.format_exception(error))).rstrip("\n").split("\n")
    lines = [time.strftime("%Y-%m-%d %H:%M:%S %z"), *_versions(), redact(" ".join(sys.argv)), "", *trace, ""]
    try:
        # In the first folder of TMPDIR, /tmp, /var/tmp and the working directory that can be written.
        with tempfile.NamedTemporaryFile(
            "w", prefix="perceiver-error-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("\n".join(lines))
    except OSError:
        return None, trace
    return file.name, trace


def _versions() -> list[str]:
    lines = [f"Python {platform.python_version()} on {platform.platform()}"]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # it is optional
            continue
    return lines


def _system_error(error: Exception) -> str | None:
    """Return cause and remedy of an error that the machine causes; None for any other."""
    if isinstance(error, MemoryError):
        return "out of memory: free some, or use a machine with more"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    place = f" ({redact(str(error.filename))})" if error.filename is not None else ""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedies = {
        errno.ENOSPC: "free space, or set TMPDIR to a folder on another disk",
        errno.EDQUOT: "free space, or set TMPDIR to a folder on another disk",
        errno.EACCES: "give this user access to it",
        errno.EPERM: "give this user access to it",
        errno.EROFS: "make it writable, or use a folder that is",
        errno.EMFILE: f"raise the limit, now {files}, with `ulimit -n 65536`",
        errno.ENFILE: "close other programs of this machine, or raise its limit",
        errno.ENOMEM: "free memory, or use a machine with more",
        errno.ENOENT: "set TMPDIR to a folder that can be written" if "temporary directory" in str(error) else "",
    }
    remedy = remedies.get(error.errno)
    words = error.strerror or os.strerror(error.errno)
    return f"{words[:1].lower()}{words[1:]}{place}: {remedy}" if remedy else None

"""The JSON files of a checkpoint, which anybody may have written: small regular files with finite numbers."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from pipeline.checkpoints.errors import CheckpointError
from pipeline.checkpoints.mistakes import explain_content

MAX_JSON_BYTES = 8 << 20  # twice that of a config.json with the names of 20,000 labels
MAX_SHOWN = 20  # characters of a wrong number that a message repeats


def check_regular(path: Path) -> None:
    """Raise CheckpointError, with what it is, unless a path, or what it links to, is a regular file.

    Nothing is opened: a named pipe would block, and a device may have no end.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        problem = explain_content(path) if path.is_symlink() and not path.exists() else None
        raise CheckpointError(problem or f"{path} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        from pipeline.storage.local_file import KINDS  # here: loading a model needs no storage

        kind = KINDS.get(stat.S_IFMT(mode), "not a regular file")
        raise CheckpointError(f"{path} is {kind}: a checkpoint has regular files only")


def check_json_size(where: str, size: int) -> None:
    """Raise CheckpointError if a JSON file is larger than any that transformers writes for these models."""
    if size > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{where} has {size:,} bytes, at most {MAX_JSON_BYTES:,} are read: it is not what save_pretrained() writes"
        )


def load_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raise CheckpointError if it is none, or holds a number that is not finite."""
    data = _read(path)
    try:
        value = json.loads(data.decode(), parse_constant=_refuse, parse_float=_finite)
    except _NotFinite as error:
        raise CheckpointError(f"{path}: the number {error} must be finite") from None
    except RecursionError:
        raise CheckpointError(f"{path} is not readable JSON: it is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(explain_content(path) or f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def _read(path: Path) -> bytes:
    check_regular(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    check_json_size(str(path), max(size, len(data)))
    return data


class _NotFinite(Exception):  # noqa: N818 - a state of a number
    """A number is infinite or not a number; the message is its text."""


def _refuse(number: str) -> NoReturn:
    raise _NotFinite(number)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
    return value

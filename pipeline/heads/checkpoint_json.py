"""Reading of a checkpoint's JSON files by heads, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.checkpoints import CheckpointError, read_json
from pipeline.perceiver.checkpoint_loading import read_model_class

_Parsed = TypeVar("_Parsed")


def check_class(folder: Path, task: str, model_classes: tuple[str, ...]) -> None:
    """Raise CheckpointError if the checkpoint's model class is not one of `model_classes`."""
    found = read_model_class(folder)
    if found not in model_classes:
        raise CheckpointError(f"{folder} is a {found}; {task} needs a {' or '.join(model_classes)}")


def read_checkpoint_json(
    folder: Path, name: str, parse: Callable[[dict[str, Any]], _Parsed], default: dict[str, Any] | None = None
) -> _Parsed:
    """Parse a JSON file of a checkpoint, or `default` if the file is missing.

    Raise CheckpointError, with the file's name, if `parse` raises ValueError.
    """
    config = read_json(folder, name, default)
    try:
        return parse(config)
    except ValueError as error:
        raise CheckpointError(f"{folder / name}: {error}") from error

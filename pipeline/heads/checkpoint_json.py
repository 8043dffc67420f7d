"""What a head reads of its checkpoint's json files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.checkpoints import CheckpointError, read_json
from pipeline.perceiver.checkpoint_loading import read_model_class

_Part = TypeVar("_Part")


def check_class(folder: Path, task: str, model_classes: tuple[str, ...]) -> None:
    """CheckpointError, naming the class that is and those that fit, where a checkpoint is none of `model_classes`."""
    found = read_model_class(folder)
    if found not in model_classes:
        raise CheckpointError(f"{folder} is a {found}; {task} needs a {' or '.join(model_classes)}")


def read_checkpoint_json(
    folder: Path, name: str, read: Callable[[dict[str, Any]], _Part], default: dict[str, Any] | None = None
) -> _Part:
    """What `read` makes of one json file, or of `default` where the file is missing; its ValueError names the file."""
    config = read_json(folder, name, default)
    try:
        return read(config)
    except ValueError as error:
        raise CheckpointError(f"{folder / name}: {error}") from error

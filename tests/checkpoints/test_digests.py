"""The digest of a checkpoint, and a checkpoint that changes while it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.checkpoints import CheckpointChanged, CheckpointError, digest, unchanged

WEIGHTS = "model.safetensors"


def write(folder: Path, *, weights: bytes = b"weights", **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"num_latents": 2} | config))
    (folder / WEIGHTS).write_bytes(weights)
    return folder


def test_digest_ignores_the_folder_and_the_software_version(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", transformers_version="5.0")
    assert digest(first) == digest(second) != digest(write(tmp_path / "c", num_latents=3))


CHANGES: dict[str, Callable[[Path], object]] = {
    "other weights": lambda folder: write(folder, weights=b"others"),
    "weights that are being written": lambda folder: write(folder, weights=b"wei"),
    "another configuration": lambda folder: write(folder, num_blocks=2),
}


@pytest.mark.parametrize("error", [None, CheckpointError("the weights are cut"), OSError(5, "input/output error")])
@pytest.mark.parametrize("change", CHANGES)
def test_change_while_a_checkpoint_is_read_is_told_with_both_digests(
    tmp_path: Path, change: str, error: Exception | None
) -> None:
    def read() -> None:
        with unchanged(folder):
            CHANGES[change](folder)
            if error is not None:
                raise error

    folder = write(tmp_path / "a")
    before = digest(folder)
    with pytest.raises(CheckpointChanged) as caught:
        read()
    digests = f"its digest was {before}, now it is {digest(folder)}"
    assert str(caught.value) == f"checkpoint {folder} changed while it was read: {digests}"


def test_weights_that_vanish_while_they_are_read_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    words = f"was {digest(folder)}, now it cannot be read: no weights in"
    with pytest.raises(CheckpointChanged, match=words), unchanged(folder):
        (folder / WEIGHTS).unlink()


def test_error_in_a_checkpoint_that_did_not_change_is_raised(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="too few heads"), unchanged(write(tmp_path / "a")):
        raise CheckpointError("too few heads")


def test_checkpoint_that_was_only_touched_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    with unchanged(folder) as before:
        os.utime(folder / WEIGHTS)
    with unchanged(folder) as after:
        assert after == before

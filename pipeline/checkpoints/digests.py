"""The digest of a checkpoint, and whether it changes while the checkpoint is read."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from pipeline.checkpoints.errors import CheckpointChanged, CheckpointError
from pipeline.checkpoints.files import DIGEST_FILES, read_json, weight_files
from pipeline.checkpoints.mistakes import explain_content

# Keys of config files that describe the software that wrote them: they do not change a prediction.
IGNORED_KEYS = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "processor_class")

FileState: TypeAlias = tuple[str, int, int, int]
"""Name, inode, size and time of change of a file."""


def digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the weights and of the configuration that changes a prediction.

    The same checkpoint has the same digest in any folder.
    """
    total = hashlib.sha256()
    for name in DIGEST_FILES:
        config = read_json(folder, name, default={})
        kept = {key: value for key, value in config.items() if key not in IGNORED_KEYS}
        total.update(json.dumps([name, kept], sort_keys=True).encode())
    for path in weight_files(folder):
        try:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            problem = explain_content(path) if path.is_symlink() else None
            raise CheckpointError(problem or f"{path} cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


@contextmanager
def unchanged(folder: Path) -> Iterator[str]:
    """Yield the digest of a checkpoint, and raise CheckpointChanged with both if it has another one after the block.

    An error in the block is raised only if the checkpoint is still the same: half of a file that is being replaced
    seems damaged. Files are read again only if the size or the time of change of one differs.
    """
    states, before = _file_states(folder), digest(folder)
    try:
        yield before
    except Exception:
        _check_unchanged(folder, states, before)
        raise
    _check_unchanged(folder, states, before)


def _check_unchanged(folder: Path, states: list[FileState], before: str) -> None:
    """Raise CheckpointChanged if the files have other states, and the digest is another one or cannot be computed."""
    try:
        if _file_states(folder) == states or (found := digest(folder)) == before:
            return
        after = f"it is {found}"
    except CheckpointError as error:
        after = f"it cannot be read: {error}"
    raise CheckpointChanged(
        f"checkpoint {folder} changed while it was read: its digest was {before}, now {after}"
    ) from None


def _file_states(folder: Path) -> list[FileState]:
    """Return the states of the files that `digest` reads."""
    paths = [path for name in DIGEST_FILES if (path := folder / name).is_file()] + weight_files(folder)
    stats = [(path.name, path.stat()) for path in paths if path.exists()]
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

"""A local folder for any checkpoint, downloaded once from the Hugging Face Hub or a URI."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoints.errors import CheckpointError
from pipeline.checkpoints.files import CONFIG_FILES, read_model_class
from pipeline.checkpoints.hub import download_from_hub, hub_config
from pipeline.checkpoints.mistakes import ADAPTER, explain_adapter, explain_missing_config, explain_missing_weights
from pipeline.checkpoints.shipped import DEMO, SHIPPED, is_shipped, shipped_folder

if TYPE_CHECKING:
    from pipeline.storage import Entry, Store

DOWNLOAD_BYTES = 64 << 20  # per request: what is repeated after a lost connection
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
MAX_NAMES = 10_000  # that are searched for the cause if a checkpoint in a store is not complete


def fetch(ref: str | Path) -> Path:
    """Return a local folder with the files of the checkpoint `ref`: a folder, a hub id (`user/name`) or a URI.

    `demo:NAME` is a checkpoint that the package contains, unless there is a folder of this name.
    Files of a URI are cached under $PERCEIVER_CACHE (~/.cache/perceiver) by their versions, and read again each time if
    a web server tells none; those of a hub id are in the Hub's own cache. Raises CheckpointError, naming `ref`, if
    there is no checkpoint.
    """
    text = str(ref)
    if (folder := _present_folder(text)) is not None:
        return folder
    return _from_uri(text) if "://" in text else _from_hub(text)


def read_model_class_early(ref: str) -> str | None:
    """Return the model class of a checkpoint before its weights are downloaded; None if that cannot be known.

    Raises CheckpointError if there is no checkpoint; whatever is wrong with its files is left to those that read them.
    """
    folder = _present_folder(ref)
    with suppress(Exception):
        return read_model_class(folder or hub_config(ref))
    return None


def _present_folder(text: str) -> Path | None:
    """Return the folder of a checkpoint that is local or shipped; None if it must be downloaded.

    Raises CheckpointError if it is neither.
    """
    if ":" in text and not is_shipped(text):
        _check_uri(text)
    folder = Path(text.removeprefix("file://")).expanduser()
    if folder.is_dir():
        if not os.access(folder, os.R_OK | os.X_OK):
            raise CheckpointError(f"checkpoint {text}: no permission to read this folder")
        return folder
    if folder.is_file():
        raise CheckpointError(f"checkpoint {text} is a file: give the folder that holds config.json")
    if is_shipped(text):
        return shipped_folder(text)
    if "://" in text and not text.startswith("file://"):
        return None
    if text.startswith(("/", ".", "~", "file://")) or text.count("/") != 1:
        raise CheckpointError(f"checkpoint {text} {_absence(text)}")
    return None


def _check_uri(text: str) -> None:
    """Raise CheckpointError if a URI holds secrets, or looks like a URI and is none."""
    from pipeline.storage import AccessError, check_uri

    try:
        check_uri(text)
    except AccessError as error:
        raise CheckpointError(f"checkpoint: {error}") from None


def _absence(text: str) -> str:
    """Return why there is no folder of this name, with the one or the shipped checkpoint that is meant."""
    from pipeline.storage.absence import explain_absence

    return explain_absence(text, others=(DEMO, *(f"{DEMO}:{name}" for name in SHIPPED))) or "is not a folder"


def _from_hub(name: str) -> Path:
    try:
        return download_from_hub(name)
    except Exception as error:  # noqa: BLE001 - the errors of the Hub's client and of its own client have no base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if _is_of_local_disk(error):
            reason = f"{reason}; set HF_HOME to a folder that this user can write, with space for it"
        here = _absence(name) if Path(name).parent.is_dir() else "is not a local folder"
        raise CheckpointError(f"checkpoint {name} {here}; the download from the Hub failed too: {reason}") from None


def _from_uri(uri: str) -> Path:
    from pipeline.storage import AccessError, Changed, Store

    try:
        store = Store(uri)
    except AccessError as error:  # its message names the URI without the secrets in it
        raise CheckpointError(f"checkpoint: {error}") from None
    try:
        return _download(store)
    except CheckpointError:
        raise
    except Changed:
        raise CheckpointError(f"checkpoint {store.uri} changed during its download: start again") from None
    except Exception as error:  # noqa: BLE001 - storage clients raise any class, for example for missing credentials
        reason = error if isinstance(error, AccessError | OSError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"checkpoint {store.uri} cannot be read: {reason}") from None


def _download(store: "Store") -> Path:
    """Return the cached copy of the checkpoint in `store`, downloaded if these versions of its files are not cached."""
    from pipeline.checkpoints.remote_files import are_versioned, list_files

    files = list_files(store)
    if ADAPTER in files:
        raise CheckpointError(explain_adapter(store.uri))
    if "config.json" not in files or files.keys() <= set(CONFIG_FILES):
        names = [entry.key for entry in islice(store.entries(), MAX_NAMES)]
        explain = explain_missing_weights if "config.json" in files else explain_missing_config
        raise CheckpointError(explain(store.uri, names))
    cache = Path(os.environ.get("PERCEIVER_CACHE", "~/.cache/perceiver")).expanduser()
    target = cache / _cache_key(store, {name: entry.version for name, entry in files.items()})
    if target.is_dir() and are_versioned(files):
        return target
    try:
        return _download_to(target, store, files)
    except OSError as error:
        if not _is_of_local_disk(error):
            raise
        raise CheckpointError(
            f"checkpoint {store.uri} cannot be stored in the folder {cache}: {error.strerror}; set PERCEIVER_CACHE to "
            "a folder that this user can write, with space for it"
        ) from None


def _download_to(target: Path, store: "Store", files: dict[str, "Entry"]) -> Path:
    """Download these files to a folder of the cache, which appears whole, and return it.

    It is `target`, or next to it the one of the files' content if the store tells no versions.
    """
    from pipeline.checkpoints.remote_files import are_versioned, list_files

    cache = target.parent
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-", ignore_cleanup_errors=True) as partial:
        for entry in files.values():
            _download_file(store, entry, Path(partial, entry.key))
        if list_files(store) != files:
            raise CheckpointError(f"checkpoint {store.uri} changed during its download: start again")
        if not are_versioned(files):
            target = cache / _cache_key(store, {name: _content_version(Path(partial, name)) for name in files})
        try:
            Path(partial).rename(target)
        except OSError:
            if not target.is_dir():  # another process may have finished the same download first
                raise
    return target


def _is_of_local_disk(error: BaseException) -> bool:
    """Return whether an error says that a local folder cannot be written, or is full."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _FULL or (error.errno in _NOT_WRITABLE and error.filename is not None)  # not a store's


def _cache_key(store: "Store", versions: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([store.uri, versions]).encode()).hexdigest()[:32]


def _content_version(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download_file(store: "Store", entry: "Entry", target: Path) -> None:
    """Download a file, which must still have the version and the size that were listed."""
    from pipeline.storage.schemes import is_web

    if is_web(store.uri):  # a web server may not support ranged requests
        target.write_bytes(store.read(entry.key, version=entry.version, size=entry.size))
        return
    with store.open(entry.key, version=entry.version, size=entry.size) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, DOWNLOAD_BYTES)

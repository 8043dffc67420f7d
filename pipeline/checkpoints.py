"""Checkpoint files: found in a local folder, or downloaded once from the Hugging Face Hub or a URI."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.checkpoint_mistakes import (
    ADAPTER,
    explain_adapter,
    explain_content,
    explain_missing_config,
    explain_missing_weights,
    names_in,
)

if TYPE_CHECKING:
    from pipeline.storage import Store

DIGEST_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
# Read next to those: each is honoured or refused with its name. They are not in the digest, so that it stays that of
# earlier versions: the settings of processor_config.json are in the run's fingerprint, and the others change nothing.
OTHER_FILES = ("processor_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", ADAPTER)
CONFIG_FILES = (*DIGEST_FILES, *OTHER_FILES)
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Keys of config files that describe the software that wrote them: they do not change a prediction.
IGNORED_KEYS = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "processor_class")
DOWNLOAD_BYTES = 64 << 20  # per request: what is repeated after a lost connection
MAX_NAMES = 10_000  # that are searched for the cause if a checkpoint in a store is not complete

T = TypeVar("T")


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message names the file or tensor that is wrong."""


class CheckpointChanged(CheckpointError):  # noqa: N818
    """A checkpoint is not the planned one, or changed while it was read. The message has both digests."""


def fetch(ref: str | Path) -> Path:
    """Return a local folder with the files of the checkpoint `ref`: a folder, a hub id (`user/name`) or a URI.

    Files of a URI are cached under $PERCEIVER_CACHE (~/.cache/perceiver) by their versions, those of a hub id in the
    Hub's own cache. Raises CheckpointError, naming `ref`, if there is no checkpoint.
    """
    text = str(ref)
    folder = Path(text.removeprefix("file://")).expanduser()
    if folder.is_dir():
        if not os.access(folder, os.R_OK | os.X_OK):
            raise CheckpointError(f"checkpoint {text}: no permission to read this folder")
        return folder
    if folder.is_file():
        raise CheckpointError(f"checkpoint {text} is a file: give the folder that holds config.json")
    if "://" in text and not text.startswith("file://"):
        return _from_uri(text)
    if text.startswith(("/", ".", "~", "file://")) or text.count("/") != 1:
        raise CheckpointError(f"checkpoint {text}: no such folder")
    return _from_hub(text)


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint, safetensors in preference to pickles.

    Raise CheckpointError, with the cause, if there are none.
    """
    if (folder / ADAPTER).exists():
        raise CheckpointError(explain_adapter(str(folder)))
    for single, index in (SAFETENSORS, PICKLED):
        if (folder / single).is_file() or (folder / single).is_symlink():
            return [folder / single]
        if (folder / index).is_file():
            names = parse_json(folder, index, _shard_names)
            if missing := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
                problem = f"which is not in {folder}: download the checkpoint again"
                raise CheckpointError(f"{folder / index} names {missing[0]}, {problem}")
            return [folder / name for name in names]
    raise CheckpointError(explain_missing_weights(str(folder), names_in(folder)))


def _shard_names(index: Mapping[str, Any]) -> list[str]:
    """Return the names of the weight files in an index."""
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError("weight_map must give the file of each tensor")
    return sorted(set(names.values()))


def check_content(path: Path) -> None:
    """Raise CheckpointError if a weight file's first bytes or its length tell that it is not what its name says."""
    try:
        problem = explain_content(path)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
    if problem:
        raise CheckpointError(problem)


def read_json(folder: Path, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read the JSON object in `folder/name`. Return `default`, if one is given, if there is no such file."""
    path = folder / name
    if not path.is_file() and not path.is_symlink():
        if default is not None:
            return default
        is_config = name == "config.json" and folder.is_dir()
        raise CheckpointError(
            explain_missing_config(str(folder), names_in(folder)) if is_config else f"no {name} in {folder}"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(explain_content(path) or f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def parse_json(
    folder: Path, name: str, parse: Callable[..., T], *arguments: Any, default: dict[str, Any] | None = None
) -> T:
    """Return parse(object, *arguments) for the JSON object in `folder/name`, or for `default` if there is no such file.

    Raise CheckpointError, with the file's name, if `parse` raises ValueError.
    """
    config = read_json(folder, name, default)
    try:
        return parse(config, *arguments)
    except ValueError as error:
        raise CheckpointError(f"{folder / name}: {error}") from error
    except (TypeError, AttributeError, LookupError) as error:  # a list in place of an object, for example
        raise CheckpointError(f"{folder / name} has values of other types than transformers writes: {error}") from error


def read_config(folder: Path) -> Any:
    """Return transformers' PerceiverConfig of the checkpoint in `folder`."""
    from transformers import PerceiverConfig

    values = read_json(folder, "config.json")
    if values.get("model_type", "perceiver") != "perceiver":
        raise CheckpointError(f"{folder / 'config.json'}: model_type {values['model_type']!r} must be 'perceiver'")
    if values.get("quantization_config"):
        problem = "quantization_config is not supported: save the weights in float32, bfloat16 or float16"
        raise CheckpointError(f"{folder / 'config.json'}: {problem}")
    try:
        return PerceiverConfig.from_dict(values)
    except Exception as error:  # transformers' validation has its own exceptions, which all mean this
        raise CheckpointError(f"{folder / 'config.json'} is not a Perceiver configuration: {error}") from error


def read_model_class(folder: Path) -> str:
    """Return the name of the class that a checkpoint was saved from, such as "PerceiverForOpticalFlow"."""
    names = read_json(folder, "config.json").get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        path, example = folder / "config.json", '"architectures": ["PerceiverForImageClassificationFourier"]'
        raise CheckpointError(f"{path}: architectures ({names}) must name one class: add it, such as {example}")
    return str(names[0])


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

    Files are read again only if the size or the time of change of one differs.
    """
    states, before = _file_states(folder), digest(folder)
    yield before
    if _file_states(folder) != states and (after := digest(folder)) != before:
        raise CheckpointChanged(
            f"checkpoint {folder} changed while it was read: its digest was {before}, now it is {after}"
        )


def _file_states(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return name, inode, size and time of change of the files that `digest` reads."""
    paths = [path for name in DIGEST_FILES if (path := folder / name).is_file()] + weight_files(folder)
    stats = [(path.name, path.stat()) for path in paths if path.exists()]
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=[*CONFIG_FILES, "model*.safetensors", SAFETENSORS[1]]))
        if not any((folder / file).is_file() for file in SAFETENSORS):
            folder = Path(snapshot_download(name, allow_patterns=[*CONFIG_FILES, "pytorch_model*.bin", PICKLED[1]]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"not a local folder, and the download from the Hub failed: {reason}"
        raise CheckpointError(f"checkpoint {name}: {problem}") from error
    return folder


def _from_uri(uri: str) -> Path:
    from pipeline.storage import AccessError, Store, redact

    try:
        store = Store(uri)
    except AccessError as error:  # its message names the URI without the secrets in it
        raise CheckpointError(f"checkpoint: {error}") from None
    try:
        return _download(store)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - storage clients raise any class, for example for missing credentials
        reason = error if isinstance(error, AccessError | OSError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"checkpoint {store.uri} cannot be read: {redact(str(reason))}") from None


def _download(store: "Store") -> Path:
    """Return the cached copy of the checkpoint in `store`, downloaded if these versions of its files are not cached."""
    versions = _versions(store)
    if ADAPTER in versions:
        raise CheckpointError(explain_adapter(store.uri))
    if "config.json" not in versions or versions.keys() <= set(CONFIG_FILES):
        names = [entry.key for entry in islice(store.entries(), MAX_NAMES)]
        explain = explain_missing_weights if "config.json" in versions else explain_missing_config
        raise CheckpointError(explain(store.uri, names))
    key = hashlib.sha256(json.dumps([store.uri, versions]).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("PERCEIVER_CACHE", "~/.cache/perceiver")).expanduser()
    if (cache / key).is_dir():
        return cache / key
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-", ignore_cleanup_errors=True) as partial:
        for name in versions:
            _download_file(store, name, Path(partial, name))
        if _versions(store) != versions:
            raise CheckpointError(f"checkpoint {store.uri} changed during its download: start again")
        try:
            Path(partial).rename(cache / key)
        except OSError:
            if not (cache / key).is_dir():  # another process may have finished the same download first
                raise
    return cache / key


def _versions(store: "Store") -> dict[str, str]:
    """Return the version of each file of the checkpoint; pickled weights only if there are no safetensors."""
    versions = {entry.key: entry.version for entry in store.entries() if "/" not in entry.key}
    weights = [name for name in versions if name.endswith(".safetensors") or name == SAFETENSORS[1]]
    weights = weights or [name for name in versions if name.startswith("pytorch_model")]
    return {name: versions[name] for name in (*CONFIG_FILES, *sorted(weights)) if name in versions}


def _download_file(store: "Store", key: str, target: Path) -> None:
    if store.uri.startswith("http"):  # a web server may not support ranged requests
        target.write_bytes(store.read(key))
        return
    with store.open(key) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, DOWNLOAD_BYTES)

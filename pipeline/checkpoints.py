"""Where a checkpoint's files are: a folder, a hub id or a URI that fsspec knows, brought to this machine once."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

SMALL_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What a config says of the software that wrote it, and not of the model.
NOT_OF_THE_MODEL = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "processor_class")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file or tensor that is wrong."""


def fetch(ref: str | Path) -> Path:
    """A local folder with the checkpoint's files, downloaded where `ref` is not one already.

    URIs are kept under $PERCEIVER_CACHE (~/.cache/perceiver), by the versions of their files; hub ids in the hub's
    own cache. Raises CheckpointError, naming `ref`, where there is no checkpoint.
    """
    text = str(ref)
    folder = Path(text.removeprefix("file://")).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(f"checkpoint {text} is a file: give the folder that holds config.json")
    if "://" in text and not text.startswith("file://"):
        return _from_uri(text)
    if text.startswith(("/", ".", "~", "file://")) or text.count("/") != 1:
        raise CheckpointError(f"checkpoint {text}: no such folder")
    return _from_hub(text)


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights, safetensors before pickled ones; CheckpointError where there is none."""
    for single, index in (SAFETENSORS, PICKLED):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            names = sorted(set(read_json(folder, index)["weight_map"].values()))
            if missing := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
                raise CheckpointError(f"{folder / index} names {missing[0]}, which is not in {folder}")
            return [folder / name for name in names]
    raise CheckpointError(f"no weights in {folder}: neither {SAFETENSORS[0]} nor {PICKLED[0]}")


def read_json(folder: Path, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """The object in `folder/name`; `default` where the file is missing and one is given."""
    path = folder / name
    if not path.is_file() and default is not None:
        return default
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"no {name} in {folder}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def digest(folder: Path) -> str:
    """SHA-256, in hex, of the weights and of the configuration that changes a prediction; paths do not enter."""
    total = hashlib.sha256()
    for name in SMALL_FILES:
        config = read_json(folder, name, default={})
        kept = {key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL}
        total.update(json.dumps([name, kept], sort_keys=True).encode())
    for path in weight_files(folder):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, "model*.safetensors", SAFETENSORS[1]]))
        if not any((folder / file).is_file() for file in SAFETENSORS):
            folder = Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, "pytorch_model*.bin", PICKLED[1]]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"checkpoint {name}: no such folder, and not to be had from the hub: {reason}") from error
    return folder


def _from_uri(uri: str) -> Path:
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(uri)
        found = {Path(entry["name"]).name: entry for entry in fs.ls(root, detail=True) if entry["type"] == "file"}
    except Exception as error:  # clients of stores raise anything, where credentials lack for example
        raise CheckpointError(f"checkpoint {uri} cannot be read: {type(error).__name__}: {error}") from error
    wanted = _wanted(set(found))
    if "config.json" not in wanted:
        raise CheckpointError(f"no config.json in {uri}")
    # All that the store says of each file: what it calls a version differs from store to store.
    listed = json.dumps([uri, [found[name] for name in wanted]], sort_keys=True, default=str)
    key = hashlib.sha256(listed.encode()).hexdigest()[:32]
    cache = Path(os.environ.get("PERCEIVER_CACHE", "~/.cache/perceiver")).expanduser()
    if (cache / key).is_dir():
        return cache / key
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache, prefix=".partial-"))
    try:
        for name in wanted:
            fs.get_file(found[name]["name"], str(partial / name))
        _adopt(partial, cache / key)
    except OSError as error:
        raise CheckpointError(f"checkpoint {uri} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return cache / key


def _wanted(names: set[str]) -> list[str]:
    """The files of a checkpoint among `names`; of the weights, safetensors where there are any."""
    weights = sorted(name for name in names if name.endswith(".safetensors") or name == SAFETENSORS[1])
    if not weights:
        weights = sorted(name for name in names if name.startswith("pytorch_model"))
    return [*(name for name in SMALL_FILES if name in names), *weights]


def _adopt(partial: Path, final: Path) -> None:
    """Give a finished download its name; another process may have been first, with the same files."""
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise

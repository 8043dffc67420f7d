"""Common mistakes with checkpoint folders, told from the names in them and from the first bytes of a file.

Each function returns the cause and what to do, for the message of a CheckpointError.
"""

import json
import re
import zipfile
from collections.abc import Collection
from pathlib import Path

ADAPTER = "adapter_config.json"
MAX_HEADER_BYTES = 8 << 20  # of a safetensors file: names and shapes of some 80,000 tensors
_LFS = b"version https://git-lfs.github.com/spec/"
_TRAINER = re.compile(r"(checkpoint-(\d+))/(adapter_)?config\.json")
_TRAINER_STATE = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args)")
_UNFINISHED = re.compile(r"\.(incomplete|part|partial|crdownload|download|aria2|tmp)$")
_OTHER_WEIGHTS = re.compile(r"\.(safetensors|bin|pt|pth|h5|msgpack|onnx|gguf)$")
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_CONVERT = "load it with transformers and save it with save_pretrained()"


def names_in(folder: Path) -> list[str]:
    """Return the names of files in a local folder, and the names of configurations in folders in it."""
    paths = [*folder.iterdir(), *folder.glob("*/config.json"), *folder.glob(f"*/{ADAPTER}")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def explain_missing_config(where: str, names: Collection[str]) -> str:
    """Explain why `where`, a folder or URI with these files, has no config.json."""
    missing = f"no config.json in {where}"
    if known := _known_folder(where, names):
        return f"{missing}: {known}"
    if checkpoints := [name for name in names if name.endswith(".ckpt")]:
        return f"{missing}: {checkpoints[0]} is a checkpoint of PyTorch Lightning; {_CONVERT}"
    return f"{missing}: a checkpoint is a folder that save_pretrained() wrote"


def explain_missing_weights(where: str, names: Collection[str]) -> str:
    """Explain why `where`, a folder or URI with these files, has neither model.safetensors nor pytorch_model.bin."""
    missing = f"no weights in {where}: neither model.safetensors nor pytorch_model.bin"
    if known := _known_folder(where, names):
        return f"{missing}: {known}"
    if unfinished := [name for name in names if _UNFINISHED.search(name)]:
        return f"{missing}, but {unfinished[0]}: the download did not end; download the checkpoint again"
    if shards := [name for name in names if _SHARD.fullmatch(name)]:
        kind = "model.safetensors" if shards[0].endswith("safetensors") else "pytorch_model.bin"
        return f"{missing}; {shards[0]} is one of several files, but their index {kind}.index.json is missing"
    if lightning := [name for name in names if name.endswith(".ckpt")]:
        return f"{missing}; {lightning[0]} is a checkpoint of PyTorch Lightning: save its model with save_pretrained()"
    if others := [name for name in names if _OTHER_WEIGHTS.search(name) and not _TRAINER_STATE.match(name)]:
        return f"{missing}, but {others[0]}, which is not read: {_CONVERT}"
    return f"{missing}: copy the weights next to config.json"


def _known_folder(where: str, names: Collection[str]) -> str | None:
    """Return what the folder is, if it is an adapter's or a Trainer's."""
    if ADAPTER in names or any(name.startswith("adapter_model.") for name in names):
        return explain_adapter(where)
    found = [match for name in names if (match := _TRAINER.fullmatch(name))]
    if found:
        last = max(found, key=lambda match: int(match[2]))
        return f"this is the folder of a Trainer; give one of its checkpoints, such as {where.rstrip('/')}/{last[1]}"
    return None


def explain_adapter(where: str) -> str:
    """Explain that a folder has an adapter."""
    return (
        f"{where} has an adapter of PEFT (LoRA and others), which is not applied: "
        "merge it into its model with merge_and_unload() and save that with save_pretrained()"
    )


def explain_content(path: Path) -> str | None:
    """Explain why a file is not what its name says; None if nothing about it is known to be wrong."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which does not exist: download the checkpoint again"
    with path.open("rb") as file:
        begin = file.read(64)
    if begin.startswith(_LFS):
        return f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in its folder"
    if not begin:
        return f"{path} is empty: download the checkpoint again"
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"{path} is a web page: download the file itself"
    if begin.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"{path} lacks its end, the index of the file: download it again"
    return _explain_length(path) if path.suffix == ".safetensors" else None


def _explain_length(path: Path) -> str | None:
    """Explain that a safetensors file ends before its last tensor, or has an absurd header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if header > size:
            return f"{path} ends within its header, after {size:,} bytes: download it again"
        if header > MAX_HEADER_BYTES:
            return f"{path} has a header of {header:,} bytes, at most {MAX_HEADER_BYTES:,} are read: download it again"
        try:
            tensors = json.loads(file.read(header))
            needed = 8 + header + max(each["data_offsets"][1] for name, each in tensors.items() if name[:2] != "__")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return None  # the reader of the file says what is wrong
    if size < needed:
        return f"{path} has {size:,} of {needed:,} bytes: download it again"
    return None

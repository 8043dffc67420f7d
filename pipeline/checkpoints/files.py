"""The files of a checkpoint in a local folder: which there are, and the JSON in them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.checkpoints.config_ranges import check_ranges
from pipeline.checkpoints.errors import CheckpointError
from pipeline.checkpoints.json_files import check_regular, load_json_object
from pipeline.checkpoints.mistakes import (
    ADAPTER,
    explain_adapter,
    explain_content,
    explain_missing_config,
    explain_missing_weights,
    names_in,
)

DIGEST_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
# Read next to those: each is honoured or refused with its name. They are not in the digest, so that it stays that of
# earlier versions: the settings of processor_config.json are in the run's fingerprint, and the others change nothing.
OTHER_FILES = ("processor_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", ADAPTER)
CONFIG_FILES = (*DIGEST_FILES, *OTHER_FILES)
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

T = TypeVar("T")


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint, safetensors in preference to pickles.

    Raise CheckpointError, with the cause, if there are none.
    """
    if (folder / ADAPTER).exists():
        raise CheckpointError(explain_adapter(str(folder)))
    for single, index in (SAFETENSORS, PICKLED):
        if (folder / single).is_symlink() or (folder / single).exists():
            check_regular(folder / single)
            return [folder / single]
        if (folder / index).is_symlink() or (folder / index).exists():
            names = parse_json(folder, index, shard_names)
            if missing := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
                problem = f"which is not in {folder}: download the checkpoint again"
                raise CheckpointError(f"{folder / index} names {missing[0]}, {problem}")
            return [folder / name for name in names]
    raise CheckpointError(explain_missing_weights(str(folder), names_in(folder)))


def shard_names(index: Mapping[str, Any]) -> list[str]:
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
    """Read the JSON object in `folder/name`. Return `default`, if one is given, if there is no such file.

    Raise CheckpointError if it is no regular file, too large, no JSON object, or holds numbers that are not finite.
    """
    path = folder / name
    if not path.is_symlink() and not path.exists():
        if default is not None:
            return default
        is_config = name == "config.json" and folder.is_dir()
        raise CheckpointError(
            explain_missing_config(str(folder), names_in(folder)) if is_config else f"no {name} in {folder}"
        )
    return load_json_object(path)


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
    """Return transformers' PerceiverConfig of the checkpoint in `folder`.

    Raise CheckpointError, before anything is made of it, if a value is absurd or that of another model.
    """
    from transformers import PerceiverConfig

    values = read_json(folder, "config.json")
    parse_json(folder, "config.json", check_ranges)
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

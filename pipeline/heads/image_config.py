"""A checkpoint's image settings, in the files and formats of transformers 4 and 5, as an `ImageTransform`."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoints import parse_json, read_json
from pipeline.heads.config_values import is_positive_int
from pipeline.heads.image_transform import ImageTransform

# Defaults of transformers' PerceiverImageProcessor. Mean and deviation are those of ImageNet.
_DEFAULTS: dict[str, Any] = {
    "do_center_crop": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"height": 224, "width": 224},
    "crop_size": {"height": 256, "width": 256},
    "resample": 3,  # bicubic
    "rescale_factor": 1 / 255,
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
    "default_to_square": True,
}
_SIDES = {"height", "width"}
_MAX_SIDE = 8192  # pixels of an image after its resizing
_MAX_CROP = 10  # shorter sides of the image; a crop of more than one has a black border
_MAX_FACTOR = 1e6  # of what pixels are scaled by, and of its inverse
_RESIZE_KEYS = (_SIDES, {"max_height", "max_width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"})
_FILTERS = range(6)  # Pillow: nearest, lanczos, bilinear, bicubic, box, hamming
_PROCESSOR = "PerceiverImageProcessor"
_PROCESSORS = (_PROCESSOR, f"{_PROCESSOR}Fast", f"{_PROCESSOR}Pil")

PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"


def settings_file(folder: Path) -> str:
    """Return the name of the file that holds a checkpoint's image settings.

    As in transformers 5, `image_processor` in processor_config.json precedes preprocessor_config.json.
    """
    nested = read_json(folder, PROCESSOR, default={}).get("image_processor")
    return PREPROCESSOR if nested is None else PROCESSOR


def read_image_settings(folder: Path) -> ImageTransform:
    """Read the image settings of a checkpoint in a local folder, or else use transformers' defaults.

    Raise CheckpointError, with the file's name, if they are invalid or those of another image processor.
    """
    parse_json(folder, "config.json", _check_processor)
    if settings_file(folder) == PROCESSOR:
        return parse_json(folder, PROCESSOR, _read_nested)
    return parse_json(folder, PREPROCESSOR, read_transform, default={})


def describe_settings(folder: Path) -> list[str]:
    """Say which file the image settings are from, if there are two or none."""
    here = (folder / PREPROCESSOR).is_file()
    if settings_file(folder) == PROCESSOR:
        return [f"checkpoint: image settings of {PROCESSOR} are used, those of {PREPROCESSOR} are not"] if here else []
    return [] if here else [f"checkpoint: without {PREPROCESSOR}, transformers' default image settings are used"]


def _read_nested(config: Mapping[str, Any]) -> ImageTransform:
    nested = config["image_processor"]
    if not isinstance(nested, Mapping):
        raise ValueError(f"image_processor ({nested!r}) must be an object")  # noqa: TRY004 - of a file, not of a caller
    return read_transform(nested)


def read_transform(config: Mapping[str, Any]) -> ImageTransform:
    """Parse a preprocessor config; missing keys get the defaults, and keys that transformers does not read are ignored.

    Raise ValueError, with the key, for an invalid value.
    """
    _check_processor(config)
    values = {**_DEFAULTS, **config}
    size = crop = mean = std = None
    if values["do_resize"] or values["do_center_crop"]:
        size = _size("size", values["size"], square=bool(values["default_to_square"]))
    if values["do_center_crop"]:
        crop = _crop_shares(size or {}, _size("crop_size", values["crop_size"]))
    if values["do_normalize"]:
        mean, std = _channels("image_mean", values["image_mean"]), _channels("image_std", values["image_std"])
        if 0 in std:
            raise ValueError(f"image_std {list(std)} must not contain 0")
        if min(map(abs, std)) < 1 / _MAX_FACTOR:
            raise ValueError(f"image_std {list(std)} must be at least {1 / _MAX_FACTOR:g}")
    return ImageTransform(
        crop=crop,
        size=_resize_target(size) if values["do_resize"] else None,
        resample=_filter(values["resample"]) if values["do_resize"] else _DEFAULTS["resample"],
        rescale=_number("rescale_factor", values["rescale_factor"]) if values["do_rescale"] else None,
        mean=mean,
        std=std,
    )


def _check_processor(config: Mapping[str, Any]) -> None:
    """Raise ValueError if a config names another image processor, whose steps are not those of `ImageTransform`."""
    name = config.get("image_processor_type")
    if name is None and "feature_extractor_type" in config:  # the name until transformers 4.25
        name = str(config["feature_extractor_type"]).replace("FeatureExtractor", "ImageProcessor")
    if name not in (None, *_PROCESSORS):
        raise ValueError(f"image_processor_type ({name!r}) must be {_PROCESSOR!r}: no other one is supported")


def _size(name: str, value: Any, *, square: bool = True) -> dict[str, int]:
    """Return a size as a mapping, {"height", "width"} or another of `_RESIZE_KEYS`, from a number, pair or mapping."""
    if isinstance(value, int):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if isinstance(value, Mapping) and value and all(map(is_positive_int, value.values())):
        if max(value.values()) > _MAX_SIDE:
            raise ValueError(f"{name} ({reprlib.repr(dict(value))}) must be at most {_MAX_SIDE:,} pixels")
        return dict(value)
    raise ValueError(f"{name} ({value!r}) must be a number of pixels, a pair of numbers, or an object with numbers")


def _crop_shares(size: Mapping[str, int], crop_size: Mapping[str, int]) -> tuple[float, float]:
    """Return height and width of the crop as fractions of the image's shorter side."""
    for name, value in (("size", size), ("crop_size", crop_size)):
        if set(value) != _SIDES:
            raise ValueError(f"{name} ({dict(value)}) must have height and width if do_center_crop is true")
    shares = size["height"] / crop_size["height"], size["width"] / crop_size["width"]
    if max(shares) > _MAX_CROP:
        raise ValueError(f"size ({dict(size)}) must be at most {_MAX_CROP} times crop_size ({dict(crop_size)})")
    return shares


def _resize_target(size: dict[str, int] | None) -> dict[str, int]:
    """Return a size that images can be resized to, or raise ValueError."""
    if size is None or set(size) not in _RESIZE_KEYS:
        kinds = "; ".join(" and ".join(sorted(kind)) for kind in _RESIZE_KEYS)
        raise ValueError(f"size ({size}) must have the keys of one of these: {kinds}")
    return size


def _filter(value: Any) -> int:
    """Return Pillow's number of a resampling filter."""
    if not isinstance(value, int) or value not in _FILTERS:
        raise ValueError(f"resample ({value!r}) must be one of Pillow's filters, {_FILTERS[0]} to {_FILTERS[-1]}")
    return int(value)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} ({value!r}) must be a number")  # noqa: TRY004 - of a file, not of a caller
    if abs(value) > _MAX_FACTOR:
        raise ValueError(f"{name} ({reprlib.repr(value)}) must be from {-_MAX_FACTOR:,.0f} to {_MAX_FACTOR:,.0f}")
    return float(value)


def _channels(name: str, value: Any) -> tuple[float, ...]:
    """Return one number per channel, from three numbers or from one for all."""
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3:
        raise ValueError(f"{name} ({value!r}) must have 3 numbers, one per channel")
    return tuple(_number(name, item) for item in values)

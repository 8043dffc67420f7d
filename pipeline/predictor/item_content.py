"""What the values that a user gives hold: paths, bytes, PIL images, arrays, texts, frame pairs and clips."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from PIL import Image

from pipeline.media import BadMedium, Clip, FramePair, MediumKind
from pipeline.predictor.file_uri import FileUri
from pipeline.sources.records.record_media import array_of, bytes_or_path, ruled_text
from pipeline.sources.source import BlankText

_Bytes: TypeAlias = bytes | bytearray | memoryview
_FORMS: Mapping[MediumKind, str] = {
    "image": "a path, the bytes of a file, a PIL image or an array uint8 [H, W, 3]",
    "frame_pair": "a pair of images, a FramePair, or a video as a path or bytes",
    "clip": "a Clip, a pair of frames uint8 [T, H, W, 3] and samples float32 [S], or a video as a path or bytes",
}

ImageContent: TypeAlias = bytes | FileUri | Image.Image | np.ndarray


@dataclass(frozen=True)
class Video:
    """A video file, which holds several frame pairs or clips."""

    file: bytes | FileUri


Content: TypeAlias = str | ImageContent | tuple[ImageContent, ImageContent] | FramePair | Clip | Video
"""What an item holds, before anything is decoded. Of a clip that is given as arrays a tuple of frames and samples."""


def content_of(value: Any, medium: MediumKind, blank_text: BlankText = "predict") -> Content:
    """Return what a user's value holds for a task on media of this kind. Raise BadMedium if it holds nothing.

    blank_text: the rule for texts that are null, empty or white space.
    """
    match medium:
        case "text":
            is_text = value is None or isinstance(value, str | bytes)
            return ruled_text(value, "text", blank_text) if is_text else _refuse(value, "a str or UTF-8 bytes")
        case "array":
            return array_of(value, "inputs")
        case "image":
            return _image_content(value, medium)
        case "frame_pair" if isinstance(value, FramePair):
            return value
        case "clip" if isinstance(value, Clip):
            return value
    if medium == "frame_pair" and (pair := _two(value)) is not None:
        return _image_content(pair[0], medium), _image_content(pair[1], medium)
    if medium == "clip" and isinstance(value, tuple) and len(value) == 2:
        return value  # frames and samples, checked when the clip is made
    file = _file(value)
    return Video(file) if isinstance(file, bytes | FileUri) else _refuse(value, _FORMS[medium])


def is_video(value: Any, medium: MediumKind) -> bool:
    """Return whether an item is a video file, which holds several units."""
    return medium in ("frame_pair", "clip") and isinstance(value, str | os.PathLike | dict | _Bytes)


def holds_files(content: Content) -> bool:
    """Return whether decoding the content parses the bytes of a file, which may be harmful."""
    parts = content if isinstance(content, tuple) else (content,)
    return any(isinstance(part, bytes | FileUri) for part in parts)


def _image_content(value: Any, medium: MediumKind) -> ImageContent:
    if isinstance(value, Image.Image):
        try:
            value.load()  # here and not in a thread: the image may be given twice
        except Exception as error:  # noqa: BLE001 - Pillow's decoders raise anything
            raise BadMedium(f"the PIL image cannot be read: {error or type(error).__name__}") from None
        return value
    file = value if isinstance(value, np.ndarray) else _file(value)
    return _refuse(value, _FORMS[medium]) if file is None else file


def _file(value: Any) -> bytes | FileUri | None:
    """Return the file in a path, bytes, or a {"bytes", "path"} as `datasets` stores them; None if it is neither."""
    value = bytes_or_path(value)
    if isinstance(value, _Bytes):
        return bytes(value)
    return FileUri.of(value) if isinstance(value, str | os.PathLike) else None


def _two(value: Any) -> Sequence[Any] | None:
    """Return the two images of a pair: a tuple, a list or an array [2, H, W, 3]; None for other values."""
    is_pair = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 4)
    return value if is_pair and len(value) == 2 else None


def _refuse(value: Any, forms: str) -> NoReturn:
    kind = "null" if value is None else type(value).__name__
    if isinstance(value, np.ndarray):
        kind = f"an array {value.dtype} {list(value.shape)}"
    raise BadMedium(f"the item must be {forms}, got {kind}")

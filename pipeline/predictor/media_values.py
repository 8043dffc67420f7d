"""From the values that a user gives to media: paths, bytes, PIL images, arrays, texts, frame pairs and clips."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import numpy as np
from PIL import Image

from pipeline.media import BadMedium, Clip, ClipSpec, FramePair, MediumKind
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.images.frame_pairs import pair_of
from pipeline.sources.images.image_decoding import DecodedImage, decode_first_frame
from pipeline.sources.images.image_pixels import Transparency, upright_rgb
from pipeline.sources.records.record_media import array_of, ruled_text
from pipeline.sources.source import BlankText
from pipeline.storage import AccessError, Store, is_access_lost
from pipeline.storage.uris import normalise_uri

_Bytes: TypeAlias = bytes | bytearray | memoryview
_FORMS: Mapping[MediumKind, str] = {
    "image": "a path, the bytes of a file, a PIL image or an array uint8 [H, W, 3]",
    "frame_pair": "a pair of images, a FramePair, or a video as a path or bytes",
    "clip": "a Clip, a pair of frames uint8 [T, H, W, 3] and samples float32 [S], or a video as a path or bytes",
}


@dataclass(frozen=True)
class FileUri:
    """A file by its URI or absolute path."""

    uri: str

    @classmethod
    def of(cls, path: Any) -> "FileUri":
        """Return the file of a path or URI. Raise BadMedium if it names none."""
        try:
            return cls(normalise_uri(os.fspath(path)))
        except AccessError as error:
            raise BadMedium(str(error)) from None

    @property
    def store(self) -> Store:
        """The folder of the file."""
        return _store(self.uri.rpartition("/")[0] or "/")

    @property
    def name(self) -> str:
        """Key of the file in its folder."""
        return self.uri.rpartition("/")[2]

    def read(self) -> bytes:
        """Read the whole file. Raise BadMedium if access is denied or it is too large, or the store's error."""
        try:
            if (size := self.store.size(self.name)) > MAX_FILE_BYTES:
                raise BadMedium(f"the file has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
            return self.store.read(self.name)
        except AccessError as error:
            raise as_fault_of_item(error) from None


def as_fault_of_item(error: AccessError) -> Exception:
    """Return an error that costs one item for lost access to its file, which ends a run: another item has another."""
    return BadMedium(str(error)) if is_access_lost(error) else error


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


def medium_of(content: Content, medium: MediumKind, transparency: Transparency, spec: ClipSpec | None) -> Any:
    """Return the medium of a content other than an image or a video. Raise BadMedium if it is damaged."""
    if medium == "frame_pair" and isinstance(content, tuple):
        first, second = (decode(image, transparency).pixels for image in content)
        return pair_of(first, second, number=0)
    if medium == "clip" and isinstance(content, tuple) and spec is not None:
        return _clip(*content, spec)
    return content


def decode(content: ImageContent, transparency: Transparency) -> DecodedImage:
    """Return an image and the number of frames in its file. Raise BadMedium if it is damaged."""
    if isinstance(content, FileUri):
        content = content.read()
    if isinstance(content, bytes):
        return decode_first_frame(content, transparency)
    if isinstance(content, np.ndarray):
        return DecodedImage(_pixels(content, transparency), 1, "array")
    return DecodedImage(upright_rgb(content, transparency), getattr(content, "n_frames", 1), str(content.format))


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
    if isinstance(value, dict) and not {"bytes", "path"}.isdisjoint(value):
        content, path = value.get("bytes"), value.get("path")
        value = path if content is None else content
    if isinstance(value, _Bytes):
        return bytes(value)
    return FileUri.of(value) if isinstance(value, str | os.PathLike) else None


def _two(value: Any) -> Sequence[Any] | None:
    """Return the two images of a pair: a tuple, a list or an array [2, H, W, 3]; None for other values."""
    is_pair = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 4)
    return value if is_pair and len(value) == 2 else None


def _pixels(array: np.ndarray, transparency: Transparency) -> np.ndarray:
    """Return RGB uint8 [H, W, 3] of an array: RGB, RGBA or gray."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise BadMedium(
            f"the image is an array {array.dtype} {list(array.shape)}; it must be uint8 [H, W, 3] (RGB), [H, W, 4] "
            "(RGBA), [H, W, 1] or [H, W] (gray), with values from 0 to 255"
        )
    if channels == 3:
        return np.ascontiguousarray(array)
    image = Image.fromarray(np.ascontiguousarray(array.reshape(array.shape[:2]) if channels == 1 else array))
    return upright_rgb(image, transparency)


def _clip(frames: Any, samples: Any, spec: ClipSpec) -> Clip:
    """Return a clip of T frames uint8 [T, H, W, 3] of any size, and S samples; None for a clip without audio."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) != spec.frames:
        raise BadMedium(
            f"the frames of the clip are an array {frames.dtype} {list(frames.shape)}; they must be uint8 "
            f"[{spec.frames}, H, W, 3]: {spec.frames} RGB frames at {spec.fps:g} per second"
        )
    silent = samples is None
    audio = np.zeros(spec.samples, np.float32) if silent else np.asarray(samples)
    if audio.shape != (spec.samples,) or audio.dtype.kind != "f":
        raise BadMedium(
            f"the samples of the clip are an array {audio.dtype} {list(audio.shape)}; they must be float32 "
            f"[{spec.samples}] in [-1, 1], at {spec.sample_rate:,} per second, or None without audio"
        )
    return Clip(
        frames=np.stack([spec.reduce(frame) for frame in frames]),
        samples=np.ascontiguousarray(audio, np.float32),
        has_audio=not silent,
        clip_index=0,
        start_seconds=0.0,
        end_seconds=spec.seconds,
        padded_frames=0,
    )


def _refuse(value: Any, forms: str) -> NoReturn:
    kind = "null" if value is None else type(value).__name__
    if isinstance(value, np.ndarray):
        kind = f"an array {value.dtype} {list(value.shape)}"
    raise BadMedium(f"the item must be {forms}, got {kind}")


@lru_cache(maxsize=64)
def _store(folder: str) -> Store:
    return Store(folder)

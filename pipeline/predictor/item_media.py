"""Decode what an item holds: images from files, PIL images or arrays, frame pairs, and clips from arrays."""

from typing import Any

import numpy as np
from PIL import Image

from pipeline.media import BadMedium, Clip, ClipSpec, MediumKind
from pipeline.predictor.file_uri import FileUri
from pipeline.predictor.item_content import Content, ImageContent
from pipeline.sources.images.frame_pairs import pair_of
from pipeline.sources.images.image_decoding import DecodedImage, decode_first_frame
from pipeline.sources.images.image_pixels import Transparency, upright_rgb


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

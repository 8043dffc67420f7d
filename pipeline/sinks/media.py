"""Pictures, videos and sound as the bytes of files. The same values give the same bytes."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping

import numpy as np

FPS = 25
SAMPLE_RATE = 48_000  # of a "wav" column, whatever rate a checkpoint that was made for tests computes with

# Of x264, from 0 (lossless) to 51: as good as the original to the eye, 20 kB for 16 frames of 224 × 224.
_CRF = 18
_PEAK = 2**15  # of 16-bit samples


def encode_mp4(frames: np.ndarray, fps: int = FPS) -> bytes:
    """An H.264 video in MP4 of frames uint8 [F, H, W, 3], at least one, of any size from 1 × 1.

    Colours at half the resolution where both sides are even (4:2:0, which every player has), else whole (4:4:4), since
    such a size has no half. Lossy (CRF 18); the index stands at the beginning, so that it plays while it is fetched.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    _check("a video", frames, 4)
    height, width = frames.shape[1:3]
    pixel_format = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
    # Said in the file, though it is what readers take for granted: limited range, and not the matrix of larger videos.
    matrix, limits = Colorspace.ITU601, ColorRange.MPEG
    file = io.BytesIO()
    with av.open(
        file,
        "w",
        format="mp4",
        options={"movflags": "faststart", "fflags": "bitexact"},
        # The index moves to the front by reading back what is written: from a copy, a BytesIO has one position only.
        io_open=lambda url, flags, options: io.BytesIO(file.getvalue()),  # noqa: ARG005
    ) as container:
        # One thread: how many there are would stand in the stream.
        codec = {"crf": str(_CRF), "threads": "1", "flags": "+bitexact"}
        stream = container.add_stream("libx264", rate=fps, options=codec)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, limits
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=limits)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def encode_wav(samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    """A WAV file of 16 bits, mono, of samples float32 [S] in [-1, 1]; what lies beyond is cut off."""
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(f"sound must be float32 [S], not {samples.dtype} {list(samples.shape)}")
    values = np.clip(np.rint(samples.astype(np.float64) * _PEAK), -_PEAK, _PEAK - 1).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(values.tobytes())
    return file.getvalue()


def encode_png(picture: np.ndarray) -> bytes:
    """A PNG file of a picture uint8 [H, W, 3]."""
    from PIL import Image

    _check("a picture", picture, 3)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, format="PNG")
    return file.getvalue()


MEDIA_ENCODERS: Mapping[str, Callable[[np.ndarray], bytes]] = {"mp4": encode_mp4, "wav": encode_wav, "png": encode_png}
"""How each of the columns that hold media is written, by the name that heads give its type."""


def _check(what: str, pixels: np.ndarray, dimensions: int) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != dimensions or pixels.shape[-1] != 3 or pixels.size == 0:
        shape = ["F", "H", "W", "3"][-dimensions:]
        wanted = f"uint8 [{', '.join(shape)}], none of them 0"
        raise ValueError(f"{what} must be {wanted}, not {pixels.dtype} {list(pixels.shape)}")

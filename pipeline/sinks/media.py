"""Encoding of images, videos and audio as file contents. The same values give the same bytes."""

import io
import wave
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial

import numpy as np

FPS = 25
SAMPLE_RATE = 48_000  # of a "wav" column; "wav:16000" has another rate

_CRF = 18  # x264 quality, from 0 (lossless) to 51: no visible loss, 20 kB for 16 frames of 224 × 224
_PEAK = 2**15  # of 16-bit samples


def encode_mp4(frames: np.ndarray, fps: int = FPS) -> bytes:
    """Encode frames uint8 [F, H, W, 3] as `VideoWriter` does; at least one frame, of any size from 1 × 1."""
    _check("video", frames, 4)
    writer = VideoWriter(frames.shape[1:3], Fraction(fps))
    for frame in frames:
        writer.add(frame)
    return writer.close()


class VideoWriter:
    """Encodes frames of one size as H.264 in MP4, one at a time.

    Color is subsampled (4:2:0, which every player supports) if both sides are even, else full (4:4:4). Lossy (CRF 18).
    The index is at the beginning of the file, for streaming.
    """

    def __init__(self, size: tuple[int, int], fps: Fraction) -> None:
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = size
        self._pixel_format = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        # Readers assume these values for a small video; the file states them, so that none has to.
        self._matrix, self._color_range = Colorspace.ITU601, ColorRange.MPEG
        self._file = file = io.BytesIO()
        self._container = av.open(
            file,
            "w",
            format="mp4",
            options={"movflags": "faststart", "fflags": "bitexact"},
            # Moving the index to the front reads the file that is written: from a copy, as BytesIO has one position.
            io_open=lambda url, flags, options: io.BytesIO(file.getvalue()),  # noqa: ARG005
        )
        # One thread, since the stream records the number of threads.
        codec = {"crf": str(_CRF), "threads": "1", "flags": "+bitexact"}
        self._stream = stream = self._container.add_stream("libx264", rate=fps, options=codec)
        stream.width, stream.height, stream.pix_fmt = width, height, self._pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = self._matrix, self._color_range

    def add(self, frame: np.ndarray) -> None:
        """Encode the next frame uint8 [H, W, 3]."""
        import av

        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image = image.reformat(
            format=self._pixel_format, dst_colorspace=self._matrix, dst_color_range=self._color_range
        )
        self._container.mux(self._stream.encode(image))

    def close(self) -> bytes:
        """Return the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def encode_wav(samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    """Encode samples float32 [S] as 16-bit mono WAV. Samples are clipped to [-1, 1]."""
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(f"audio must be float32 [S], not {samples.dtype} {list(samples.shape)}")
    values = np.clip(np.rint(samples.astype(np.float64) * _PEAK), -_PEAK, _PEAK - 1).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(values.tobytes())
    return file.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image uint8 [H, W, 3] as PNG."""
    from PIL import Image

    _check("image", image, 3)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")
    return file.getvalue()


MEDIA_ENCODERS: Mapping[str, Callable[[np.ndarray], bytes]] = {"mp4": encode_mp4, "wav": encode_wav, "png": encode_png}
"""Encoder of each media column type that heads declare."""


def medium_name(kind: str) -> str:
    """Return the key in `MEDIA_ENCODERS` of a declared type: "wav" for "wav:16000"."""
    name, _, rate = kind.partition(":")
    return name if name == "wav" and rate.isdecimal() else kind


def media_encoder(kind: str, encoders: Mapping[str, Callable[..., bytes]] = MEDIA_ENCODERS) -> Callable[..., bytes]:
    """Return the encoder of a declared type."""
    encode, (_, _, rate) = encoders[medium_name(kind)], kind.partition(":")
    return partial(encode, rate=int(rate)) if rate else encode


def _check(what: str, pixels: np.ndarray, dimensions: int) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != dimensions or pixels.shape[-1] != 3 or pixels.size == 0:
        shape = ", ".join(["F", "H", "W", "3"][-dimensions:])
        raise ValueError(f"{what} must be non-empty uint8 [{shape}], not {pixels.dtype} {list(pixels.shape)}")

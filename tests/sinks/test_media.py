"""Encoded media files hold the original values when PyAV and Pillow decode them."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipeline.sinks.media import MEDIA_ENCODERS, encode_mp4, encode_png, encode_wav, media_encoder
from pipeline.sinks.schema import arrow_type

ASTRONAUT = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((256, 240)))


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """Return frames that drift over a photo by two pixels per frame: uint8 [F, H, W, 3]."""
    size = (width + 2 * frames, height + 2 * frames)
    image = np.asarray(Image.fromarray(skimage.data.astronaut()).resize(size))
    return np.stack([image[2 * at : 2 * at + height, 2 * at : 2 * at + width] for at in range(frames)])


def opened(data: bytes) -> tuple[np.ndarray, list[float], av.VideoStream]:
    """Decode a video into its frames, their times in seconds, and its stream."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), [f.time or 0.0 for f in frames], stream


def test_video_has_25_frames_per_second() -> None:
    frames = moving(16, 224, 224)
    found, seconds, stream = opened(encode_mp4(frames))
    assert (stream.codec_context.name, stream.frames, stream.average_rate) == ("h264", 16, 25)
    assert stream.codec_context.pix_fmt == "yuv420p"
    assert stream.duration * stream.time_base == Fraction(16, 25)
    assert found.shape == frames.shape
    np.testing.assert_allclose(seconds, np.arange(16) / 25, atol=1e-4)
    error = np.abs(found.astype(float) - frames)
    assert error.mean() < 4  # of 255; the colors' half resolution is most of it
    assert np.abs(found.astype(float) - frames[::-1]).mean() > 3 * error.mean()  # the order is seen at this tolerance


def test_video_has_the_requested_rate() -> None:
    _, seconds, stream = opened(encode_mp4(moving(5, 16, 16), fps=10))
    assert stream.average_rate == 10
    np.testing.assert_allclose(seconds, np.arange(5) / 10, atol=1e-4)


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_flat_colors_are_preserved(color: tuple[int, int, int]) -> None:
    frames = np.full((3, 32, 32, 3), color, np.uint8)
    found, _, stream = opened(encode_mp4(frames))
    assert np.abs(found.astype(int) - frames).max() <= 4
    assert stream.codec_context.colorspace == 5  # ITU-R BT.601, as readers without the tag assume
    assert stream.codec_context.color_range == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 5), (7, 224), (224, 7), (2, 640), (64, 48)])
@pytest.mark.parametrize("count", [1, 2, 16])
def test_video_of_any_size_can_be_decoded(size: tuple[int, int], count: int) -> None:
    frames = np.repeat(moving(1, *size), count, axis=0)
    found, _, stream = opened(encode_mp4(frames))
    assert found.shape == (count, *size, 3)
    assert (stream.frames, stream.average_rate) == (count, 25)
    grey = [0.299, 0.587, 0.114]  # chroma has half the resolution: the smallest images keep only this
    assert np.abs(found @ grey - frames @ grey).mean() < 6


def test_index_precedes_the_frames() -> None:
    data = encode_mp4(moving(16, 64, 64))
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_frames_need_not_be_contiguous() -> None:
    frames = moving(4, 64, 64)  # x264 decides by memory that it has not set in videos of two rows of blocks
    strided = np.ascontiguousarray(frames.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    assert not strided.flags.c_contiguous
    assert encode_mp4(strided) == encode_mp4(frames)
    assert encode_png(strided[0]) == encode_png(frames[0])


_DIGESTS = """
import hashlib
import numpy as np
from pipeline.sinks.media import encode_mp4, encode_png, encode_wav
values = np.random.default_rng(0)
frames = values.integers(0, 256, (8, 48, 64, 3), np.uint8)
samples = values.uniform(-1, 1, 5000).astype(np.float32)
for data in (encode_mp4(frames), encode_wav(samples), encode_png(frames[0])):
    print(hashlib.sha256(data).hexdigest())
"""


def test_same_values_give_the_same_bytes_in_every_process() -> None:
    runs = [subprocess.check_output([sys.executable, "-c", _DIGESTS], text=True) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 3
    assert b"Lavf" not in encode_mp4(moving(1, 8, 8))  # nor does the container say which release wrote it


def test_audio_has_48000_samples_per_second() -> None:
    seconds = np.arange(30_720) / 48_000
    samples = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    samples[:4] = [1, -1, 0, 1 / 32768]
    with av.open(io.BytesIO(encode_wav(samples))) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("pcm_s16le", 48_000, 1)
        found = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(stream)])
    assert found.shape == samples.shape
    np.testing.assert_allclose(found / 32768, samples, rtol=0, atol=1 / 32768)
    assert np.abs(found[4:] / 32768 - samples[4:]).mean() < 0.3 / 32768  # rounded, not cut
    assert found[2:4].tolist() == [0, 1]


@pytest.mark.parametrize(("kind", "rate"), [("wav", 48_000), ("wav:16000", 16_000), ("wav:25", 25)])
def test_audio_has_the_rate_of_its_column(kind: str, rate: int) -> None:
    with av.open(io.BytesIO(media_encoder(kind)(np.zeros(rate, np.float32)))) as container:
        assert container.streams.audio[0].rate == rate


@pytest.mark.parametrize("kind", ["wav:", "wav:fast", "wav:-1", "mp4:25", "flac"])
def test_unknown_media_column_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        arrow_type(kind)


def test_audio_out_of_range_is_clipped() -> None:
    data = encode_wav(np.array([-3, -1.0001, 1.0001, 3], np.float32), rate=8000)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].rate == 8000
        found = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    assert found.tolist() == [-32768, -32768, 32767, 32767]


@pytest.mark.parametrize("image", [ASTRONAUT, ASTRONAUT[:1, :1], ASTRONAUT[:7, :13]])
def test_image_is_lossless(image: np.ndarray) -> None:
    with Image.open(io.BytesIO(encode_png(image))) as found:
        assert (found.format, found.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(found), image)


def test_every_media_column_type_has_an_encoder() -> None:
    starts = {"mp4": (moving(2, 8, 8), 4, b"ftyp"), "wav": (np.zeros(9, np.float32), 0, b"RIFF")}
    starts["png"] = (ASTRONAUT, 1, b"PNG")
    assert starts.keys() == MEDIA_ENCODERS.keys()
    for name, (values, at, word) in starts.items():
        assert MEDIA_ENCODERS[name](values)[at:].startswith(word)


@pytest.mark.parametrize(
    ("write", "values", "message"),
    [
        (encode_mp4, np.zeros((2, 8, 8, 3), np.float32), r"uint8 \[F, H, W, 3\].*not float32 \[2, 8, 8, 3\]"),
        (encode_mp4, np.zeros((8, 8, 3), np.uint8), r"not uint8 \[8, 8, 3\]"),
        (
            encode_mp4,
            np.zeros((0, 8, 8, 3), np.uint8),
            r"video must be non-empty uint8 \[F, H, W, 3\], not uint8 \[0, 8, 8, 3\]",
        ),
        (encode_mp4, np.zeros((2, 8, 8, 4), np.uint8), r"not uint8 \[2, 8, 8, 4\]"),
        (encode_png, np.zeros((8, 8), np.uint8), r"image must be non-empty uint8 \[H, W, 3\]"),
        (encode_wav, np.zeros((2, 9), np.float32), r"float32 \[S\], not float32 \[2, 9\]"),
        (encode_wav, np.zeros(9, np.int16), "not int16"),
    ],
)
def test_wrong_type_or_shape_is_named(write, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(values)


def test_av_is_imported_on_first_use_only() -> None:
    code = "import sys, pipeline.sinks.media; print(sorted({'av', 'PIL'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

"""Videos for tests, written by PyAV: each frame shows its number in blocks that survive any codec; the audio is a tone.

The number is drawn upright, so a video that is stored rotated shows it only after it is rotated back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np

GRID = 4
"""Blocks per side. The first one is white, to tell upright frames from rotated ones; the others are 15 bits."""

_AUDIO_BLOCK = 1024  # samples per frame given to the encoder
_VIDEO_CODECS = {".webm": "libvpx", ".avi": "mpeg4"}
_AUDIO_CODECS = {".webm": "libopus", ".avi": "pcm_s16le", ".mkv": "flac"}
_CODEC_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "16", "x264-params": "log-level=none:scenecut=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "mpeg4": {"qscale": "2"},
    "mpeg2video": {"qscale": "2"},
}

_TimedPackets: TypeAlias = Iterator[tuple[float, av.Packet]]
"""Packets with their time in seconds after the first frame."""


def numbered(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw a number from 0 to 32767 as uint8 [H, W, 3]; only a shade of gray if `size` (width, height) is below 4."""
    width, height = size
    if min(size) < GRID:
        return np.full((height, width, 3), 16 + number * 8 % 224, np.uint8)
    bits = np.array([1, *(number >> bit & 1 for bit in range(GRID * GRID - 1))], np.uint8).reshape(GRID, GRID)
    rows, columns = np.arange(height) * GRID // height, np.arange(width) * GRID // width
    gray = np.where(bits[rows][:, columns], 220, 30).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def number_of(frame: np.ndarray) -> int:
    """Read the number that a frame uint8 [H, W, 3] shows. Raise ValueError without a number or if it is rotated."""
    height, width = frame.shape[:2]
    rows, columns = ((2 * np.arange(GRID) + 1) * side // (2 * GRID) for side in (height, width))
    lit = (frame[np.ix_(rows, columns)].mean(axis=2) > 125).flatten().tolist()
    if not lit[0]:
        raise ValueError("the frame shows no number, or is not upright")
    return sum(1 << bit for bit, one in enumerate(lit[1:]) if one)


def noise(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw random pixels uint8 [H, W, 3], which make large files."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def tone(times: np.ndarray, frequency: float = 440.0) -> np.ndarray:
    """Return the samples of a tone at times in seconds, float32 in [-0.5, 0.5]."""
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def make_video(
    path: Path,
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 48),
    rate: float = 25,
    *,
    codec: str | None = None,
    pixels: str = "yuv420p",
    times: Sequence[float] | None = None,
    start: float = 0.0,
    rotation: int = 0,
    gop: int = 12,
    b_frames: int = 0,
    audio_rate: int | None = None,
    channels: int = 1,
    audio_codec: str | None = None,
    audio_start: float | None = None,
    audio_seconds: float | None = None,
    waveform: Callable[[np.ndarray], np.ndarray] = tone,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = numbered,
    options: Mapping[str, str] | None = None,
    format_options: Mapping[str, str] | None = None,
) -> Path:
    """Write a video whose container is chosen by the extension, and return its path.

    Args:
        seconds: duration, unless `times` is given.
        size: (width, height) of an upright frame.
        rate: frames per second, unless `times` is given.
        times: presentation time of each frame in seconds after `start`.
        start: time stamp of the first frame in seconds.
        rotation: degrees, a multiple of 90, by which a player rotates the stored frames counter-clockwise.
        audio_rate: audio samples per second; None for no audio track.
        audio_start: time stamp of the first sample in seconds; `start` by default.
        audio_seconds: duration of the audio; `seconds` by default.
        waveform: samples in [-1, 1] at times in seconds after `start`, the same in each of the `channels`.
        draw: uint8 [H, W, 3] from the index and the size of a frame.
    """
    shown = [number / rate for number in range(round(seconds * rate))] if times is None else list(times)
    with av.open(str(path), "w", options=dict(format_options or {})) as container:
        codec = codec or _VIDEO_CODECS.get(path.suffix, "libx264")
        video = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        video.width, video.height = size if rotation % 180 == 0 else size[::-1]
        video.pix_fmt = pixels
        context = video.codec_context
        has_frame_times = path.suffix != ".avi" and not codec.startswith("mpeg")
        context.time_base = Fraction(1, 90_000) if has_frame_times else 1 / context.framerate
        context.gop_size, context.max_b_frames, context.thread_count = gop, b_frames, 1
        video.options = _CODEC_OPTIONS.get(codec, {}) | dict(options or {})
        if rotation:
            video.set_display_rotation(rotation)
        tracks = [_video_packets(video, shown, size, start, rotation, draw)]
        if audio_rate is not None:
            codec = audio_codec or _AUDIO_CODECS.get(path.suffix, "aac")
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            audio = container.add_stream(codec, rate=audio_rate, layout=layout)
            begin = start if audio_start is None else audio_start
            length = seconds if audio_seconds is None else audio_seconds
            tracks.append(_audio_packets(audio, begin, length, start, waveform))
        for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):  # interleaved by time
            container.mux(packet)
    return path


def _video_packets(
    stream: av.VideoStream,
    shown: Sequence[float],
    size: tuple[int, int],
    start: float,
    rotation: int,
    draw: Callable[[int, tuple[int, int]], np.ndarray],
) -> _TimedPackets:
    base = stream.codec_context.time_base
    for number, time in enumerate(shown):
        stored = np.ascontiguousarray(np.rot90(draw(number, size), -rotation // 90))
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
        frame.pts, frame.time_base = round(start / base) + round(time / base), base
        for packet in stream.encode(frame):
            yield time, packet
    for packet in stream.encode(None):
        yield shown[-1] if shown else 0.0, packet


def _audio_packets(
    stream: av.AudioStream, begin: float, seconds: float, start: float, waveform: Callable[[np.ndarray], np.ndarray]
) -> _TimedPackets:
    """Encode `seconds` of audio from time stamp `begin` on, the same in every channel."""
    rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout
    for at in range(0, round(seconds * rate), _AUDIO_BLOCK):
        count = min(_AUDIO_BLOCK, round(seconds * rate) - at)
        values = waveform(begin - start + (at + np.arange(count)) / rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.tile(values, (layout.nb_channels, 1)), format="fltp", layout=layout.name)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(begin * rate) + at
        for packet in stream.encode(frame):
            yield begin - start + at / rate, packet
    for packet in stream.encode(None):
        yield begin - start + seconds, packet

"""Films for tests, written by PyAV: each frame shows its number, in blocks that outlast any codec, and there is a tone.

The number is shown upright, so a film that is stored turned shows it once it is turned back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

GRID = 4
"""Blocks a side. The first is white, so that a turned frame is told from an upright one; 15 are the number's bits."""

_AUDIO_BLOCK = 1024
_VIDEO = {".webm": "libvpx", ".avi": "mpeg4"}
_AUDIO = {".webm": "libopus", ".avi": "pcm_s16le", ".mkv": "flac"}
_CODEC_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "16", "x264-params": "log-level=none:scenecut=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "mpeg4": {"qscale": "2"},
    "mpeg2video": {"qscale": "2"},
}


def numbered(number: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] that shows a number of 0…32767; of a size (width, height) of less than 4 a single gray."""
    width, height = size
    if min(size) < GRID:
        return np.full((height, width, 3), 16 + number * 8 % 224, np.uint8)
    bits = np.array([1, *(number >> bit & 1 for bit in range(GRID * GRID - 1))], np.uint8).reshape(GRID, GRID)
    rows, columns = np.arange(height) * GRID // height, np.arange(width) * GRID // width
    gray = np.where(bits[rows][:, columns], 220, 30).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def number_of(frame: np.ndarray) -> int:
    """The number that a frame uint8 [H, W, 3] shows; ValueError where it is none, or is not upright."""
    height, width = frame.shape[:2]
    rows, columns = ((2 * np.arange(GRID) + 1) * side // (2 * GRID) for side in (height, width))
    means = frame.mean(axis=2)
    lit = [bool(means[row, column] > 125) for row in rows for column in columns]
    if not lit[0]:
        raise ValueError("the frame shows no number, or is turned")
    return sum(1 << bit for bit, one in enumerate(lit[1:]) if one)


def tone(times: np.ndarray, frequency: float = 440.0) -> np.ndarray:
    """The sound at times in seconds: float32 in [-0.5, 0.5]."""
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
        video = _video_stream(container, path, codec, size, rate, rotation, pixels, gop, b_frames, options)
        audio = None if audio_rate is None else _audio_stream(container, path, audio_codec, audio_rate, channels)
        packets = _video_packets(video, shown, size, start, rotation, draw)
        audio_packets: Iterator[tuple[float, av.Packet]] = iter(())
        if audio is not None:
            begin = start if audio_start is None else audio_start
            length = seconds if audio_seconds is None else audio_seconds
            audio_packets = _audio_packets(audio, begin, length, start, waveform)
        for _, packet in _by_time(packets, audio_packets):
            container.mux(packet)
    return path


def _video_stream(container, path, codec, size, rate, rotation, pixels, gop, b_frames, options):  # type: ignore[no-untyped-def]
    codec = codec or _VIDEO.get(path.suffix, "libx264")
    stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
    stream.width, stream.height = size if rotation % 180 == 0 else size[::-1]
    stream.pix_fmt = pixels
    context = stream.codec_context
    counts_frames = path.suffix == ".avi" or codec.startswith("mpeg")  # and knows no other time
    context.time_base = 1 / stream.codec_context.framerate if counts_frames else Fraction(1, 90_000)
    context.gop_size, context.max_b_frames, context.thread_count = gop, b_frames, 1
    chosen = _CODEC_OPTIONS.get(codec, {}) | dict(options or {})
    stream.options = chosen
    if rotation:
        stream.set_display_rotation(rotation)
    return stream


def _audio_stream(container, path, codec, rate, channels):  # type: ignore[no-untyped-def]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    return container.add_stream(codec or _AUDIO.get(path.suffix, "aac"), rate=rate, layout=layout)


def _video_packets(stream, shown, size, start, rotation, draw):  # type: ignore[no-untyped-def]
    """(seconds, packet) of the frames."""
    base = stream.codec_context.time_base
    for number, time in enumerate(shown):
        stored = np.ascontiguousarray(np.rot90(draw(number, size), -rotation // 90))
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
        frame.pts, frame.time_base = round(start / base) + round(time / base), base
        for packet in stream.encode(frame):
            yield time, packet
    for packet in stream.encode(None):
        yield shown[-1] if shown else 0.0, packet


def _audio_packets(stream, begin, seconds, start, waveform):  # type: ignore[no-untyped-def]
    """(seconds, packet) of the sound, the same in every channel."""
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


def _by_time(*tracks):  # type: ignore[no-untyped-def]
    """What the tracks give, in order of time: they lie interleaved in the file."""
    return heapq.merge(*tracks, key=lambda timed: timed[0])

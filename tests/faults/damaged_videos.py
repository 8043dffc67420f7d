"""A folder of unusual, truncated, damaged and hostile video files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from tests.sample_videos import make_video, noise
from tests.sources.test_video_faults import SCRIPTS

SIZE = (24, 16)
SECONDS = 1.3  # two clips: the second one has the remaining frame and is padded
TIMES = (0.0, 0.03, 0.11, 0.35, 0.42, 0.7, 0.71, 0.95, 1.2)

GOOD = {
    "audio.mp4": 0,
    "large.mp4": 0,
    "mp4-named.avi": 0,
    "odd.mp4": 0,
    "one-pixel.mov": 0,
    "rotated.mp4": 90,
    "silent.mp4": 0,
    "variable.mkv": 0,
    "webm-named.mp4": 0,
}
"""Videos whose units are all predicted, with the degrees by which a player rotates their frames."""

CUT = {"cut-index-first.mp4": "declares 6.0 s", "cut.mkv": "declares 6.0 s", "cut.ts": "inside a packet"}
"""Videos of 6 s that were cut to about half, with the message about the missing half."""

BAD = {
    "cut-index-last.mp4": "truncated or damaged MP4",
    "empty.mp4": "an empty file (0 bytes) is not a supported video file",
    "huge.mov": "8300 by 8300 pixels are too many",
    "image.mp4": "is not a supported video file",
    "no-frames.mkv": "0 frames: the video stream is empty",
    "only-audio.mp4": "no video stream, only audio",
    "page.mp4": "an HTML file is not a supported video file",
}
"""Files that are one quarantined unit, with its message."""


def make_videos(folder: Path) -> None:
    """Write every file of `GOOD`, `CUT` and `BAD`."""
    folder.mkdir()
    _make_good(folder)
    faststart = {"movflags": "faststart"}
    _cut(make_video(folder / "cut-index-first.mp4", 6, SIZE, draw=noise, format_options=faststart), 0.5)
    _cut(make_video(folder / "cut.mkv", 6, SIZE, draw=noise), 0.5)
    _cut(make_video(folder / "cut.ts", 6, SIZE, draw=noise), 0.5)
    _cut(make_video(folder / "cut-index-last.mp4", 2, SIZE, draw=noise), 0.6)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_bytes(b"<html>moved</html>")
    (folder / "image.mp4").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    make_video(folder / "no-frames.mkv", 0.0, SIZE, audio_rate=48_000, audio_seconds=1.0)
    _make_huge(folder / "huge.mov")
    _make_audio_only(folder / "only-audio.mp4")


def make_scripts(folder: Path, address: str) -> dict[str, Path]:
    """Write files, by kind, that make FFmpeg open `secret.ts` in the same folder or request URLs of `address`."""
    make_video(folder / "secret.ts", 1.0, SIZE)
    made = {}
    for number, (name, content) in enumerate(SCRIPTS.items()):
        for extension in (".mp4", ".mkv"):
            path = folder / f"script-{number}{extension}"
            path.write_text(content.format(address=address, folder=folder))
            made[f"{name}{extension}"] = path
    return made


def _make_good(folder: Path) -> None:
    make_video(folder / "silent.mp4", SECONDS, SIZE)
    make_video(folder / "audio.mp4", SECONDS, SIZE, audio_rate=48_000)
    make_video(folder / "large.mp4", SECONDS, (61, 40), pixels="yuv444p")
    make_video(folder / "odd.mp4", SECONDS, (23, 17), pixels="yuv444p")
    make_video(folder / "one-pixel.mov", SECONDS, (1, 1), codec="png", pixels="rgb24")
    make_video(folder / "rotated.mp4", SECONDS, SIZE, rotation=90)
    make_video(folder / "variable.mkv", size=SIZE, times=TIMES)
    make_video(folder / "a.mp4", SECONDS, SIZE).rename(folder / "mp4-named.avi")
    make_video(folder / "a.webm", SECONDS, SIZE).rename(folder / "webm-named.mp4")


def _make_huge(path: Path) -> None:
    """Write a video of 300 × 260 pixels whose headers, including those of its frames, declare 8300 × 8300."""
    data = make_video(path, 0.2, (300, 260), codec="png", pixels="rgb24").read_bytes()
    for size in (2, 4):
        declared = (300).to_bytes(size) + (260).to_bytes(size)
        assert declared in data
        data = data.replace(declared, (8300).to_bytes(size) * 2)
    path.write_bytes(data)


def _make_audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _cut(path: Path, part: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])

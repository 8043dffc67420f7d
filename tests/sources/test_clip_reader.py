"""Clips of videos: frames at a fixed rate, and the audio of the same time, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.media import BadMedium, Clip, ClipSpec
from pipeline.sources.source import SourceOptions, Unit
from tests.sample_videos import make_video, noise, number_of, tone
from tests.sources.planned_videos import Counting, planned


def halved(frame: np.ndarray) -> np.ndarray:
    return frame[::2, ::2]


SPEC = ClipSpec(frames=16, fps=25, samples=30720, sample_rate=48000, reduce=halved)
SMALL = ClipSpec(frames=4, fps=10, samples=3200, sample_rate=8000, reduce=halved)


def clips(path: Path, clip: ClipSpec = SPEC, **options: Any) -> list[Unit]:
    source, store, pieces = planned(path, medium="clip", clip_spec=clip, **options)
    return [unit for piece in pieces for unit in source.units(store, piece)]


def media(path: Path, clip: ClipSpec = SPEC, **options: Any) -> list[Clip]:
    found = clips(path, clip, **options)
    for unit in found:
        assert unit.error is None, unit.error
    return [unit.medium for unit in found]


def shown(medium: Clip) -> list[int]:
    return [number_of(frame) for frame in medium.frames]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.ts"])
@pytest.mark.parametrize("rate", [25, 30, 12])
def test_consecutive_clips_cover_the_video_and_the_last_is_padded(tmp_path: Path, name: str, rate: int) -> None:
    path = make_video(tmp_path / name, 2.0, rate=rate, audio_rate=48000)
    for piece_units in (None, 1):
        found = media(path, piece_units=piece_units)
        assert [medium.clip_index for medium in found] == [0, 1, 2, 3]
        assert [medium.padded_frames for medium in found] == [0, 0, 0, 14]
        assert [medium.start_seconds for medium in found] == pytest.approx([0, 0.64, 1.28, 1.92])
        assert [medium.end_seconds for medium in found] == pytest.approx([0.64, 1.28, 1.92, 2.0], abs=2e-3)
        frames = np.concatenate([shown(medium) for medium in found])[:50]
        assert frames.tolist() == [int(i / 25 * rate + rate * 1e-3) for i in range(50)]
        assert set(shown(found[3])[2:]) == {shown(found[3])[1]}
        assert found[0].frames.shape == (16, 24, 32, 3)
        assert all(medium.has_audio and medium.samples.shape == (30720,) for medium in found)
    assert [unit.id for unit in clips(path)] == [f"{name}#{start}" for start in ("0.000", "0.640", "1.280", "1.920")]
    assert len(media(path, short_clip="drop")) == 3


def test_video_shorter_than_a_clip_is_one_padded_clip(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 0.2)
    (medium,) = media(path)
    assert (medium.padded_frames, medium.end_seconds) == (11, pytest.approx(0.2))
    assert shown(medium) == [0, 1, 2, 3, *[4] * 12]
    assert not medium.has_audio
    assert not medium.samples.any()
    assert clips(path, short_clip="drop") == []


def test_video_of_whole_clips_has_no_padded_clip(tmp_path: Path) -> None:
    assert [medium.padded_frames for medium in media(make_video(tmp_path / "a.mp4", 1.92))] == [0, 0, 0]


def test_overlapping_clips_decode_each_frame_once(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 2.0, audio_rate=8000, audio_codec="aac")
    seen: list[int] = []

    def reduce(frame: np.ndarray) -> np.ndarray:
        seen.append(number_of(frame))
        return halved(frame)

    spec = ClipSpec(frames=16, fps=25, samples=30720, sample_rate=48000, reduce=reduce)
    source, store, (piece,) = planned(path, medium="clip", clip_spec=SPEC, clip_stride=0.12)
    source = type(source)(options=SourceOptions(medium="clip", clip_spec=spec, clip_stride=0.12))
    found = [unit.medium for unit in source.units(store, piece)]
    assert seen == list(range(50))
    assert [shown(medium)[0] for medium in found] == list(range(0, 37, 3))
    assert [medium.padded_frames for medium in found] == [0] * 12 + [
        2
    ]  # the first clip that reaches the end is the last one
    assert len(media(path, clip_stride=0.12, short_clip="drop")) == 12
    for medium in found:
        first = medium.clip_index * 3
        assert shown(medium) == [min(49, first + i) for i in range(16)]


def test_frames_between_distant_clips_are_not_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20, (96, 64), draw=noise, audio_rate=48000)
    store = Counting(str(tmp_path))
    source, _, (piece,) = planned(path, store, medium="clip", clip_spec=SPEC, clip_stride=8.0)
    store.bytes = 0
    found = list(source.units(store, piece))
    assert [unit.id for unit in found] == ["a.mp4#0.000", "a.mp4#8.000", "a.mp4#16.000"]
    assert store.bytes < path.stat().st_size * 0.8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pcm.mov", {"audio_codec": "pcm_s16le", "audio_rate": 48000}),
        ("pcm.mkv", {"audio_codec": "pcm_s16le", "audio_rate": 44100, "channels": 2}),
        ("flac.mkv", {"audio_rate": 44100, "channels": 2}),
        ("pcm.avi", {"audio_rate": 22050, "channels": 2}),
        ("late.mov", {"audio_codec": "pcm_s16le", "audio_rate": 44100, "start": 2.5}),
        ("surround.mov", {"audio_codec": "pcm_s16le", "audio_rate": 48000, "channels": 6}),
    ],
)
def test_audio_has_the_samples_of_its_time(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = make_video(tmp_path / name, 4.0, **options)
    whole = media(path)
    for medium in whole[:6]:
        times = medium.start_seconds + np.arange(30720) / 48000
        edge = 100 if medium.clip_index == 0 else 0  # the filter rings at the start of the audio
        assert np.abs(medium.samples - tone(times))[edge:].max() < 2e-3
    for medium, alone in zip(whole, media(path, piece_units=1), strict=True):
        np.testing.assert_array_equal(medium.samples, alone.samples)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "o.webm", "m.avi"])
def test_compressed_audio_does_not_depend_on_the_pieces(tmp_path: Path, name: str) -> None:
    codec = {"o.webm": "libopus", "m.avi": "libmp3lame"}.get(name, "aac")
    rate = 48000 if codec == "libopus" else 44100
    path = make_video(tmp_path / name, 4.0, audio_rate=rate, channels=2, audio_codec=codec)
    whole = media(path)
    for medium, alone in zip(whole, media(path, piece_units=1), strict=True):
        np.testing.assert_allclose(
            medium.samples, alone.samples, atol=5e-3
        )  # AAC decoders fill bands with random noise
    for medium in whole[1:6]:
        times = medium.start_seconds + np.arange(30720) / 48000
        assert _lag(medium.samples, tone(times)) <= 48 * 1.2  # samples: containers round to a millisecond


def _lag(audible: np.ndarray, made: np.ndarray) -> int:
    """Return the delay in samples between two tones of 440 Hz, from their phases."""
    wave = np.exp(-2j * np.pi * 440 * np.arange(len(audible)) / 48000)
    turn = np.angle((audible * wave).sum() / (made * wave).sum())
    return round(abs(turn) / (2 * np.pi) * 48000 / 440)


def test_audio_is_silent_before_and_after_its_track(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mkv", 3.0, audio_rate=48000, audio_start=1.0, audio_seconds=1.0, audio_codec="pcm_s16le"
    )
    samples = np.concatenate([medium.samples for medium in media(path)])
    times = np.arange(len(samples)) / 48000
    audible = (times >= 1.0) & (times < 2.0)
    assert not samples[~audible].any()
    assert np.abs(samples - tone(times))[audible].max() < 1e-3


def test_audio_before_the_first_frame_is_skipped(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mkv",
        1.28,
        start=1.0,
        audio_rate=48000,
        audio_start=0.0,
        audio_seconds=3.0,
        audio_codec="pcm_s16le",
    )
    samples = np.concatenate([medium.samples for medium in media(path)])
    assert np.abs(samples - tone(np.arange(61440) / 48000)).max() < 1e-3


def test_clips_follow_another_spec(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1.0, audio_rate=48000)
    first, second, third = media(path, SMALL)
    assert (shown(first), shown(second), shown(third)) == ([0, 2, 5, 7], [10, 12, 15, 17], [20, 22, 22, 22])
    assert first.samples.shape == (3200,)
    assert first.samples.dtype == np.float32


def test_loud_audio_is_clipped_to_one(tmp_path: Path) -> None:
    def square(times: np.ndarray) -> np.ndarray:
        return np.sign(np.sin(2 * np.pi * 300 * times))

    path = make_video(tmp_path / "a.mov", 1.0, audio_rate=44100, channels=2, audio_codec="pcm_s16le", waveform=square)
    samples = media(path)[0].samples
    assert np.abs(samples).max() == 1
    assert np.abs(samples).mean() > 0.9


def test_damaged_audio_affects_only_the_clips_at_that_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 4.0, audio_rate=48000, audio_codec="flac")
    data = bytearray(path.read_bytes())
    frames = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xf8"]  # start of a FLAC frame
    assert len(frames) > 20
    for at in (frames[len(frames) // 2], frames[len(frames) // 2 + 1]):
        data[at : at + 12] = bytes(12)
    path.write_bytes(data)
    found = clips(path)
    bad = [unit for unit in found if unit.error is not None]
    assert 1 <= len(bad) <= 2
    for unit in bad:
        assert isinstance(unit.error, BadMedium)
        assert "the audio is damaged at 2." in str(unit.error) or "the audio is damaged at 1." in str(unit.error)
    assert [unit.medium.clip_index for unit in found if unit.error is None and unit.id < "a.mkv#1.2"] == [0, 1]


def test_error_of_reduce_affects_one_clip(tmp_path: Path) -> None:
    def reduce(frame: np.ndarray) -> np.ndarray:
        if frame.any() and number_of(frame) == 20:
            raise ValueError("cannot be reduced")
        return halved(frame)

    spec = ClipSpec(frames=16, fps=25, samples=30720, sample_rate=48000, reduce=reduce)
    found = clips(make_video(tmp_path / "a.mp4"), spec)
    assert [str(unit.error) for unit in found] == ["None", "cannot be reduced", "None", "None"]


def test_plan_of_clips_counts_them(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 30, audio_rate=48000)
    pieces = planned(path, medium="clip", clip_spec=SPEC)[2]
    assert [(piece.begin, piece.end, piece.first, piece.about) for piece in pieces] == [
        (0, 32, 0, 32),
        (32, None, 32, 15),
    ]
    assert pieces[0].weight == 32 * (16 * 24 * 32 * 3 + 4 * 30720)

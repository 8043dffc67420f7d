"""Frame pairs of videos: the right frames at the right times, for every container and cut into any pieces."""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.media import BadMedium
from pipeline.sources.source import SourceOptions
from pipeline.sources.video_source import VIDEO
from pipeline.storage import Store
from tests.sample_videos import make_video
from tests.sources.planned_videos import RATE, SECONDS, SPEC, numbers, planned, units

REFRESHED = {"x264-params": "log-level=none:scenecut=0:intra-refresh=1"}


OPEN_GOP = {"x264-params": "log-level=none:scenecut=0:open-gop=1"}


VIDEOS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b_frames_and_audio.mp4": {"b_frames": 2, "audio_rate": 44100, "channels": 2},
    "pcm.mov": {"b_frames": 2, "audio_rate": 48000, "audio_codec": "pcm_s16le"},
    "flac.mkv": {"b_frames": 2, "audio_rate": 48000},
    "vp8_opus.webm": {"audio_rate": 48000},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "live.webm": {"format_options": {"live": "1"}},
    "mpeg4.avi": {"audio_rate": 44100},
    "xvid_b_frames.avi": {"b_frames": 3},
    "h264_open.avi": {"codec": "libx264", "b_frames": 2, "options": OPEN_GOP},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "h264.ts": {"b_frames": 2, "audio_rate": 48000},
    "late.ts": {"codec": "mpeg2video", "b_frames": 2, "start": 7.32},
    "late.mp4": {"start": 3.0, "audio_rate": 48000},
    "late.mkv": {"start": 3.0},
    "open.mp4": {"b_frames": 2, "options": OPEN_GOP},
    "open.mkv": {"b_frames": 2, "options": OPEN_GOP},
    "open.ts": {"b_frames": 2, "options": OPEN_GOP},
    "hevc.mp4": {"codec": "libx265", "b_frames": 2},
    "refreshed.ts": {"options": REFRESHED},  # intra refresh: an image is complete some frames after its key frame
    "one_keyframe.mp4": {"gop": 1000, "b_frames": 3},
    "one_keyframe.ts": {"gop": 1000, "b_frames": 3},
    "fragmented.mp4": {"format_options": {"movflags": "frag_keyframe+empty_moov"}},
    "dash.mp4": {"format_options": {"movflags": "dash+frag_keyframe"}},
    "long_audio.mkv": {"audio_rate": 44100, "audio_seconds": 4.0},
    "long_audio.mp4": {"audio_rate": 44100, "audio_seconds": 4.0},
    "short_audio.mkv": {"audio_rate": 48000, "audio_seconds": 0.5},
}


VARIABLE = [0.0, 0.1, 0.15, 0.5, 1.2, 1.24, 1.9]


@pytest.fixture(scope="module", params=VIDEOS)
def video_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / request.param, SECONDS, rate=RATE, **VIDEOS[request.param])


def test_every_pair_is_read_with_its_time_from_any_pieces(video_path: Path) -> None:
    for piece_units in (None, 7):
        found = units(video_path, piece_units=piece_units)
        assert [numbers(unit) for unit in found] == list(pairwise(range(50)))
        assert [unit.id for unit in found] == [f"{video_path.name}#{number / RATE:.3f}" for number in range(49)]
        assert [unit.medium.frame_index for unit in found] == list(range(49))
        for unit in found:
            start = unit.medium.start_seconds
            assert start == pytest.approx(unit.medium.frame_index / RATE, abs=6e-4)  # Matroska's milliseconds
            assert unit.medium.frames.dtype == np.uint8
            assert unit.medium.frames.shape == (2, 48, 64, 3)


@pytest.mark.parametrize("fps", [10.0, *(pytest.param(fps, marks=pytest.mark.slow) for fps in (3.0, 60.0, 0.9))])
def test_pairs_at_a_rate_have_the_frames_shown_at_these_times(video_path: Path, fps: float) -> None:
    expected = [(k / fps, (k + 1) / fps) for k in range(200) if (k + 1) / fps < SECONDS - 1e-3]
    for piece_units in (None, 4):
        found = units(video_path, fps=fps, piece_units=piece_units)
        assert [unit.medium.start_seconds for unit in found] == [first for first, _ in expected]
        assert [unit.medium.frame_index for unit in found] == list(range(len(expected)))
        assert [numbers(unit) for unit in found] == [
            (int(first * RATE + 0.025), int(second * RATE + 0.025)) for first, second in expected
        ]


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.ts"])
def test_frames_at_a_variable_rate_keep_their_times(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, times=VARIABLE, b_frames=2)
    for piece_units in (None, 1):
        found = units(path, piece_units=piece_units)
        assert [numbers(unit) for unit in found] == list(pairwise(range(7)))
        assert [unit.medium.start_seconds for unit in found] == pytest.approx(VARIABLE[:-1], abs=1e-3)
    if name != "v.mkv" and name != "v.ts":  # without a list of frames, their numbers are estimates
        assert [unit.medium.frame_index for unit in found] == list(range(6))
    path = make_video(tmp_path / name, times=VARIABLE)  # without B-frames MP4 has the duration of the last frame
    shown = [sum(time <= k / 4 + 1e-3 for time in VARIABLE) - 1 for k in range(8)]
    assert [numbers(unit) for unit in units(path, fps=4.0)] == list(pairwise(shown))


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("name", ["r.mp4", "r.mov", "r.mkv"])
def test_rotated_video_is_read_upright(tmp_path: Path, name: str, rotation: int) -> None:
    found = units(make_video(tmp_path / name, 0.4, (64, 48), rotation=rotation))
    assert [numbers(unit) for unit in found] == list(pairwise(range(10)))
    assert found[0].medium.frames.shape == (2, 48, 64, 3)


def test_mirrored_video_is_read_upright(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "m.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90, hflip=True)
        gray = np.zeros((48, 64, 3), np.uint8)
        gray[:24, :32] = 255  # the stored upper left corner
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(gray, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (first, _) = units(tmp_path / "m.mp4")
    image = first.medium.frames[0]
    expected = np.fliplr(np.rot90(gray))  # counter-clockwise, then mirrored
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - expected).mean() < 10


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    def red(number: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((size[1], size[0], 3), (200, 60, 20), np.uint8)

    (unit, *_) = units(make_video(tmp_path / "red.mp4", 0.2, draw=red))
    assert np.abs(unit.medium.frames[0].reshape(-1, 3).mean(axis=0) - (200, 60, 20)).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 31), (63, 49)])
def test_odd_and_tiny_frame_sizes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "odd.mov", 0.4, size, codec="png", pixels="rgb24")
    found = units(path)
    assert len(found) == 9
    assert {unit.medium.frames.shape for unit in found} == {(2, size[1], size[0], 3)}
    if min(size) > 4:
        assert [numbers(unit) for unit in found] == list(pairwise(range(10)))


def test_h264_with_an_odd_frame_size_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "odd.mp4", 0.4, (63, 49), pixels="yuv444p")
    assert [numbers(unit) for unit in units(path)] == list(pairwise(range(10)))


def test_ids_of_a_fast_video_have_microseconds(tmp_path: Path) -> None:
    found = units(make_video(tmp_path / "fast.mp4", 0.02, rate=1000))
    assert [unit.id for unit in found[:2]] == ["fast.mp4#0.000000", "fast.mp4#0.001000"]


@pytest.mark.parametrize("piece_units", [None, 1, 2])
def test_ids_of_frames_within_two_milliseconds_have_microseconds(tmp_path: Path, piece_units: int | None) -> None:
    video_path = make_video(tmp_path / "a.mp4", times=[0.0, 0.04, 0.0401, 0.08, 0.0804, 0.12])
    found = units(video_path, piece_units=piece_units)
    assert [unit.id for unit in found] == [
        "a.mp4#0.000",
        "a.mp4#0.040000",
        "a.mp4#0.040100",
        "a.mp4#0.080000",
        "a.mp4#0.080400",
    ]
    assert [numbers(unit) for unit in found] == list(pairwise(range(6)))


def test_ids_of_pairs_within_two_milliseconds_have_microseconds(tmp_path: Path) -> None:
    found = units(make_video(tmp_path / "a.mp4", 0.2), fps=999)
    assert [unit.id for unit in found[:3]] == ["a.mp4#0.000000", "a.mp4#0.001001", "a.mp4#0.002002"]
    assert len({unit.id for unit in found}) == len(found) >= 197


def test_unsupported_and_invalid_options_are_rejected() -> None:
    for options, message in (
        (SourceOptions(medium="frame_pair", column="a"), "the files have no columns"),
        (SourceOptions(medium="frame_pair", fps=0.0), r"fps \(0\) must be greater than 0"),
        (SourceOptions(medium="frame_pair", clip_stride=1.0), r"clip_stride \(1\) is not supported for pairs"),
        (SourceOptions(medium="frame_pair", short_clip="drop"), r"short_clip \(drop\) is not supported for pairs"),
        (SourceOptions(medium="frame_pair", fps=1e9), r"fps \(1e\+09\) must be at most 1000"),
        (
            SourceOptions(medium="clip", clip_spec=SPEC, clip_stride=1e-9),
            r"clip_stride \(1e-09\) must be at least 0.001",
        ),
        (SourceOptions(medium="clip"), "medium clip needs a ClipSpec"),
    ):
        with pytest.raises(ValueError, match=message):
            VIDEO.configured(options)


def test_video_too_short_for_a_pair_is_an_error(tmp_path: Path) -> None:
    (unit,) = units(make_video(tmp_path / "a.mp4", 0.04))
    assert isinstance(unit.error, BadMedium)
    assert str(unit.error) == "the video is 0.040 s long, too short for a pair"


def test_source_is_picklable_and_imports_without_ffmpeg() -> None:
    assert pickle.loads(pickle.dumps(VIDEO)) == VIDEO
    code = "import sys, pipeline.sources.video_source; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_video_in_s3_is_read(s3, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = make_video(tmp_path / "a b#1.mp4", audio_rate=48000)
    uri = s3.bucket("videos")
    s3.client.upload_file(str(path), uri.removeprefix("s3://"), f"drive/{path.name}")
    store = Store(f"{uri}/drive")
    source, _, pieces = planned(path, store, piece_units=30)
    found = [unit for piece in pieces for unit in source.units(store, piece)]
    assert [numbers(unit) for unit in found] == list(pairwise(range(50)))
    assert found[0].uri == f"{uri}/drive/a b#1.mp4"

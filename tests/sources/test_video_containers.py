"""Containers that are read for some codecs only: the same frames as PyAV alone, sought exactly, or a clear refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.sample_videos import make_video, number_of, tone
from tests.sources.planned_videos import numbers, units
from tests.sources.test_clip_reader import _lag, clips, shown

MP3 = {"audio_rate": 44100, "audio_codec": "libmp3lame"}
CONTAINERS: dict[str, dict[str, Any]] = {
    "h264.flv": {"b_frames": 2, "audio_rate": 44100},
    "hevc.flv": {"codec": "libx265", "b_frames": 2},
    "flv1.flv": {"codec": "flv", **MP3},
    "late.flv": {"b_frames": 2, "start": 3.0, "audio_rate": 44100},
    "long_audio.flv": {"b_frames": 2, "audio_rate": 44100, "audio_seconds": 4.0},
    "wmv1.wmv": {"codec": "wmv1"},
    "wmv2.wmv": {"codec": "wmv2", **MP3},
    "msmpeg4v2.asf": {"codec": "msmpeg4v2"},
    "msmpeg4v3.wmv": {"codec": "msmpeg4", "gop": 600},
    "late.wmv": {"codec": "wmv2", "start": 3.0, **MP3},
    "h264.3gp": {"b_frames": 2, "audio_rate": 44100},
    "h263.3g2": {"codec": "h263", "size": (176, 144)},
    "mpeg2.mxf": {"codec": "mpeg2video", "b_frames": 2, "audio_rate": 48000, "audio_codec": "pcm_s16le"},
    "prores.mxf": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "dv.mxf": {"codec": "dvvideo", "size": (720, 576)},
    "dnxhd.mxf": {"codec": "dnxhd", "size": (1280, 720), "pixels": "yuv422p", "options": {"b": "60M"}},
}


def frames_alone(path: Path) -> list[np.ndarray]:
    """Return the frames of a video as PyAV decodes them from its beginning."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_pair_has_the_frames_that_pyav_reads_alone(tmp_path: Path, name: str) -> None:
    is_large = max(CONTAINERS[name].get("size", (0, 0))) > 500
    seconds = 0.4 if is_large else 2.0
    path = make_video(tmp_path / name, seconds, **CONTAINERS[name])
    alone = frames_alone(path)
    assert [number_of(frame) for frame in alone] == list(range(round(seconds * 25)))
    for piece_units in (None, 7, 1):
        found = units(path, piece_units=piece_units)
        assert [numbers(unit) for unit in found] == list(pairwise(range(len(alone))))
        assert [unit.id for unit in found] == [f"{name}#{number / 25:.3f}" for number in range(len(alone) - 1)]
        for number, unit in enumerate(found):
            np.testing.assert_array_equal(unit.medium.frames, alone[number : number + 2])


@pytest.mark.parametrize("name", [name for name, options in CONTAINERS.items() if "audio_rate" in options])
def test_clips_have_the_frames_and_the_sound_of_their_time(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, 4.0, **CONTAINERS[name] | {"audio_seconds": 4.0})
    whole, cut = clips(path), clips(path, piece_units=1)
    assert [unit.id for unit in whole] == [f"{name}#{number * 0.64:.3f}" for number in range(7)]
    for number, (unit, alone) in enumerate(zip(whole, cut, strict=True)):
        assert unit.error is None, unit.error
        assert shown(unit.medium) == [min(16 * number + frame, 99) for frame in range(16)] == shown(alone.medium)
        np.testing.assert_allclose(unit.medium.samples, alone.medium.samples, atol=5e-3)
        if 1 <= number <= 5:
            times = unit.medium.start_seconds + np.arange(30720) / 48000
            assert _lag(unit.medium.samples, tone(times)) <= 48 * 1.2  # samples: containers round to a millisecond


@pytest.mark.parametrize("name", ["h264.flv", "wmv2.wmv", "mpeg2.mxf", "prores.mxf"])
def test_file_cut_short_gives_an_error_after_its_frames(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, 2.0, (160, 120), **CONTAINERS[name])
    data = path.read_bytes()
    for tenths in (3, 5, 6, 8):
        path.write_bytes(data[: len(data) * tenths // 10])
        found = units(path)
        complete = [numbers(unit) for unit in found if unit.error is None]
        assert len(complete) == 49 or found[-1].error is not None
        assert complete == sorted(set(complete))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.wmv", "h264", {"b_frames": 2}),
        ("a.mxf", "h264", {"b_frames": 2}),
        ("a.flv", "flashsv", {"codec": "flashsv", "pixels": "bgr24"}),
    ],
)
def test_codec_whose_frames_cannot_be_timed_is_refused(
    tmp_path: Path, name: str, codec: str, options: dict[str, Any]
) -> None:
    (unit,) = units(make_video(tmp_path / name, 0.4, **options))
    assert f"{codec} video in " in str(unit.error)
    assert "convert it to MP4" in str(unit.error)


@pytest.mark.parametrize("name", ["a.mpg", "a.vob", "a.ogg", "a.m2v"])
def test_container_without_exact_times_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    codec = "libvpx" if name == "a.ogg" else "mpeg2video"
    (unit,) = units(make_video(tmp_path / name, 0.4, codec=codec))
    assert "is not a supported video file" in str(unit.error)
    assert str(unit.error).endswith("convert it to MP4")

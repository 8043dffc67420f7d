"""Parts of a video between `start` and `end`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.sources.source import SourceOptions
from pipeline.sources.video_source import VIDEO
from tests.sample_videos import make_video
from tests.sources.planned_videos import RATE, SECONDS, SPEC, planned, units

WINDOWS = [(0.5, 1.2), (None, 0.3), (1.5, None), (0.0, 99.0), (0.73, 0.76)]


KINDS: list[dict[str, Any]] = [{}, {"fps": 10.0}, {"medium": "clip", "clip_spec": SPEC, "clip_stride": 0.2}]


@pytest.mark.parametrize("kind", KINDS, ids=["consecutive", "at a rate", "clips"])
@pytest.mark.parametrize(("start", "end"), WINDOWS)
def test_units_between_start_and_end_are_those_of_the_whole_video(
    tmp_path: Path, kind: dict[str, Any], start: float | None, end: float | None
) -> None:
    path = make_video(tmp_path / "a.mp4", SECONDS, rate=RATE, b_frames=2, audio_rate=48000)
    whole = {unit.id: unit for unit in units(path, **kind)}
    inside = [name for name in whole if (start or 0.0) - 1e-6 <= float(name.partition("#")[2]) < (end or 99.0) - 1e-6]
    for piece_units in (None, 2):
        found = units(path, start=start, end=end, piece_units=piece_units, **kind)
        assert [unit.id for unit in found] == inside
        for unit in found:
            np.testing.assert_array_equal(unit.medium.frames, whole[unit.id].medium.frames)


def test_a_plan_of_a_window_counts_its_units(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", SECONDS, rate=RATE)
    for options in ({}, {"fps": 10.0}):
        *_, pieces = planned(path, start=0.5, end=1.0, piece_units=3, **options)
        about = 5 if options else 12
        assert abs(sum(piece.about or 0 for piece in pieces) - about) <= 1


def test_a_video_shorter_than_start_has_no_unit(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", SECONDS, rate=RATE)
    _, _, (piece,) = planned(path, start=5.0)
    assert (piece.begin, piece.end, piece.units) == (0, 0, 0)
    assert units(path, start=5.0) == []


@pytest.mark.parametrize(
    ("start", "end", "words"), [(2.0, 1.0, "start .2."), (-1.0, None, "start"), (None, 0.0, "end")]
)
def test_a_wrong_window_is_refused(start: float | None, end: float | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VIDEO.configured(SourceOptions(medium="frame_pair", start=start, end=end))

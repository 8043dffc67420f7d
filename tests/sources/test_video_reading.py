"""How a video is cut into pieces, how much of its file a piece reads, and what happens if the file cannot be read."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import pytest

from pipeline.storage import AccessError, Changed, Missing, StorageError, Store
from tests.sample_videos import make_video, noise
from tests.sources.planned_videos import Counting, planned


def test_plan_cuts_a_video_by_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", 30, (64, 48), rate=25)
    _, _, pieces = planned(path, piece_units=75)
    assert [(piece.begin, piece.end) for piece in pieces] == [
        (number * 3_000_000, None if number == 9 else (number + 1) * 3_000_000) for number in range(10)
    ]
    assert all(piece.units is None and piece.about in (74, 75) for piece in pieces)
    assert pieces[0].weight == 75 * 2 * 64 * 48 * 3
    assert (pieces[0].first, pieces[1].first) == (0, None)
    (whole,) = planned(path)[2]
    assert (whole.begin, whole.end, whole.about) == (0, None, 749)
    spaced = planned(path, fps=2.0, piece_units=30)[2]
    assert [(piece.begin, piece.end, piece.first, piece.about) for piece in spaced] == [
        (0, 30, 0, 30),
        (30, None, 30, 29),
    ]


def test_large_frames_make_small_pieces_of_several_pairs(tmp_path: Path) -> None:
    def black(number: int, size: tuple[int, int]) -> np.ndarray:
        return np.zeros((size[1], size[0], 3), np.uint8)

    path = make_video(tmp_path / "hd.mp4", 2, (1920, 1080), draw=black, options={"preset": "ultrafast"})
    own = planned(path)[2]
    assert [piece.about for piece in own[:-1]] == [5] * (len(own) - 1)  # 62 MB
    assert own[1].begin == 200_000
    assert {piece.about for piece in planned(path, fps=25.0)[2]} == {1}  # 12 MB each


@pytest.mark.parametrize("name", ["big.mp4", "big.mkv", "big.avi"])
def test_piece_in_the_middle_is_read_without_the_whole_file(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, 20, (96, 64), draw=noise, audio_rate=48000)
    size = path.stat().st_size
    store = Counting(str(tmp_path))
    source, _, pieces = planned(path, store, piece_units=10)
    assert store.bytes < size / 4
    store.bytes = 0
    found = list(source.units(store, pieces[len(pieces) // 2]))
    assert len(found) == 10
    assert found[0].medium.frame_index == len(pieces) // 2 * 10
    assert store.bytes < size / 4


def test_frames_between_distant_pairs_are_not_read(tmp_path: Path) -> None:
    for name in ("far.mp4", "far.mkv"):
        path = make_video(tmp_path / name, 20, (96, 64), draw=noise)
        store = Counting(str(tmp_path))
        source, _, (piece,) = planned(path, store, fps=0.1)
        store.bytes = 0
        (unit,) = source.units(store, piece)
        assert unit.error is None
        assert store.bytes < path.stat().st_size / 2


@pytest.mark.slow
def test_decoded_frames_are_released_while_reading(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 4, audio_rate=48000)
    source, store, (piece,) = planned(path)
    gc.collect()
    gc.disable()
    try:
        most = 0
        for _ in source.units(store, piece):
            most = max(most, sum(isinstance(each, av.VideoFrame) for each in gc.get_objects()))
    finally:
        gc.enable()
    assert 0 < most < 8


def test_storage_error_is_reported_instead_of_a_short_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 10, (96, 64), draw=noise)
    source, _, (piece, *_) = planned(path)
    failing = Counting(str(tmp_path), fail_after=path.stat().st_size // 2)
    *good, last = source.units(failing, piece)
    assert len(good) > 20
    assert all(unit.error is None for unit in good)
    assert isinstance(last.error, StorageError)
    assert last.error.transient
    assert last.id not in {unit.id for unit in good}
    with pytest.raises(StorageError, match="connection reset"):
        planned(path, Counting(str(tmp_path), fail_after=0))


def test_file_missing_or_changed_since_the_plan_is_an_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    source, store, (piece, last) = planned(path, piece_units=40)
    make_video(path, rate=30)
    (unit,) = source.units(store, last)
    assert (unit.id, type(unit.error)) == ("a.mp4#1.600", Changed)
    path.unlink()
    (unit,) = source.units(store, piece)
    assert (unit.id, type(unit.error)) == ("a.mp4#0.000", Missing)


def test_lost_access_is_raised(tmp_path: Path) -> None:
    class Denied(Store):
        def open(self, key: str, **planned: Any) -> BinaryIO:  # noqa: ARG002
            raise AccessError("token expired")

    source, _, (piece,) = planned(make_video(tmp_path / "a.mp4"))
    with pytest.raises(AccessError, match="token expired"):
        list(source.units(Denied(str(tmp_path)), piece))

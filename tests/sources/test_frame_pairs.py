"""Frame pairs of a folder: neighbours by name, in each folder separately."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources import SourceOptions, Unit, discover, source_for
from pipeline.sources.images.frame_pairs import FramePairEntry, in_pairs
from pipeline.storage import AccessError, Entry, LeftOut, Store
from tests.decoded_units import decode_all

PAIRS = source_for("images", SourceOptions(medium="frame_pair"))


def entries(*keys: str) -> list[Entry]:
    return [Entry(key=key, size=1, version=f"v-{key}") for key in sorted(keys, key=str.encode)]


def pairs(*keys: str) -> list[tuple[str, str, int]]:
    left_out = LeftOut()
    found = list(in_pairs(iter(entries(*keys)), lambda _: True, left_out.add))
    paired = {key for pair in found for key in (pair.key, getattr(pair, "other", ""))}
    assert [key for key, _ in left_out.entries()] == [entry.key for entry in entries(*keys) if entry.key not in paired]
    assert all(isinstance(pair, FramePairEntry) for pair in found)
    return [(pair.key, pair.other, pair.number) for pair in found]  # type: ignore[attr-defined]


def put(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    for number, (key, size) in enumerate(sizes.items()):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 2 * number, 0)).save(folder / key)


def read(uri: str) -> list[Unit]:
    found = discover(uri, PAIRS)
    pieces = [piece for entry in found.entries for piece in PAIRS.pieces(found.store, entry)]
    return [unit for piece in pieces for unit in decode_all(PAIRS.units(found.store, piece))]


def test_each_frame_is_paired_with_the_next_of_its_folder() -> None:
    assert pairs("a/1.png", "a/2.png", "a/3.png", "b/7.png", "b/8.png", "c/1.png") == [
        ("a/1.png", "a/2.png", 0),
        ("a/2.png", "a/3.png", 1),
        ("b/7.png", "b/8.png", 0),
    ]


def test_a_folder_between_two_frames_does_not_separate_them_and_keys_stay_in_order() -> None:
    found = pairs("a/1.png", "a/b/1.png", "a/b/2.png", "a/b/c/9.png", "a/c.png", "z.png", "a.png")
    assert found == [("a.png", "z.png", 0), ("a/1.png", "a/c.png", 0), ("a/b/1.png", "a/b/2.png", 0)]
    assert found == sorted(found, key=lambda pair: pair[0].encode())


def test_other_files_pass_between_the_frames_in_order() -> None:
    listed = entries("1.png", "2.mp4", "3.png", "4.mp4")
    found = list(in_pairs(iter(listed), lambda entry: entry.key.endswith(".png"), LeftOut().add))
    assert [entry.key for entry in found] == ["1.png", "2.mp4", "4.mp4"]


def test_names_without_leading_zeros_are_refused() -> None:
    with pytest.raises(AccessError, match=r"frame2\.png follows frame10\.png by name.*leading zeros"):
        pairs("frame1.png", "frame2.png", "frame10.png")
    assert pairs("frame01.png", "frame02.png", "frame10.png")[1] == ("frame02.png", "frame10.png", 1)


def test_a_pair_has_both_frames_and_its_number(tmp_path: Path) -> None:
    put(tmp_path, {"x/00.png": (7, 5), "x/01.png": (7, 5), "x/02.png": (7, 5)})
    first, second = read(str(tmp_path))
    assert [first.id, second.id] == ["x/00.png", "x/01.png"]
    assert (second.medium.frame_index, second.medium.start_seconds) == (1, None)
    assert second.medium.frames.shape == (2, 5, 7, 3)
    assert second.medium.frames[:, 0, 0].tolist() == [[1, 2, 0], [2, 4, 0]]
    assert second.uri == f"{tmp_path}/x/01.png"


def test_frames_of_different_sizes_or_changed_frames_fail_their_pair_only(tmp_path: Path) -> None:
    put(tmp_path, {"0.png": (7, 5), "1.png": (7, 5), "2.png": (8, 5), "3.png": (8, 5)})
    found = discover(str(tmp_path), PAIRS)
    pieces = [piece for entry in found.entries for piece in PAIRS.pieces(found.store, entry)]
    Image.new("RGB", (8, 5), "red").save(tmp_path / "3.png")
    units = [unit for piece in pieces for unit in decode_all(PAIRS.units(found.store, piece))]
    assert [type(unit.error).__name__ for unit in units] == ["NoneType", "BadMedium", "Changed"]
    assert isinstance(units[1].error, BadMedium)
    assert "5 by 7 and 5 by 8" in str(units[1].error)


def test_a_frame_inserted_between_two_changes_their_pair(tmp_path: Path) -> None:
    def planned() -> dict[str, str]:
        return {entry.key: entry.version for entry in discover(str(tmp_path), PAIRS).entries}

    put(tmp_path, {"1.png": (7, 5), "3.png": (7, 5)})
    before = planned()
    put(tmp_path, {"2.png": (7, 5)})
    after = planned()
    assert after["1.png"] != before["1.png"]
    assert sorted(after) == ["1.png", "2.png"]


def test_a_single_frame_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"1.png": (7, 5), "x/1.png": (7, 5)})
    with pytest.raises(AccessError, match=r"2, the only frame in its folder: 1.png, x/1.png \(a frame pair needs"):
        discover(str(tmp_path), PAIRS)
    assert (
        len(list(discover(Store(str(tmp_path)).uri, source_for("images", SourceOptions(medium="image"))).entries)) == 2
    )


def test_a_frame_rate_is_not_supported_for_images() -> None:
    with pytest.raises(ValueError, match=r"fps \(5\) is not supported for images"):
        source_for("images", SourceOptions(medium="frame_pair", fps=5))

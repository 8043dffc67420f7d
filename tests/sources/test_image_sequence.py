"""Files with several frames as input of optical flow: each two neighbouring frames of a file are a pair."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources import Unit, discover, source_for
from pipeline.sources.images.image_sequence import SequenceEntry, declares_several_frames, mark_sequences
from pipeline.sources.source import SourceOptions
from pipeline.storage import Entry, Store
from tests.decoded_units import decode_all

SEQUENCES: dict[str, dict[str, Any]] = {
    "GIF": {},
    "WEBP": {"lossless": True},
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
}


def frames(count: int = 6) -> list[Image.Image]:
    """Return frames of 16 × 12 pixels that differ everywhere."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(count)]


def sequence(form: str, count: int = 6) -> bytes:
    file, (first, *others) = io.BytesIO(), frames(count)
    first.save(file, form, save_all=True, append_images=others, **SEQUENCES[form])
    return file.getvalue()


def shown(data: bytes) -> list[np.ndarray]:
    """Return the frames as Pillow shows them."""
    with Image.open(io.BytesIO(data)) as image:
        return [np.asarray((image.seek(number), image.convert("RGB"))[1]) for number in range(image.n_frames)]  # type: ignore[attr-defined]


def units_of(folder: Path, name: str = "auto", **options: Any) -> list[Unit]:
    source = source_for(name, SourceOptions(medium="frame_pair", **options))
    found = discover(str(folder), source)
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    return [unit for piece in pieces for unit in decode_all(source.units(found.store, piece))]


@pytest.mark.parametrize("form", SEQUENCES)
@pytest.mark.parametrize("piece_units", [None, 2])
def test_each_two_neighbouring_frames_of_a_file_are_a_pair(form: str, piece_units: int | None, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.{form.lower()}").write_bytes(sequence(form))
    units = units_of(tmp_path, piece_units=piece_units)
    wanted = shown(sequence(form))
    assert [unit.id for unit in units] == [f"{name}.{form.lower()}#{at}" for name in "ab" for at in range(5)]
    for number, unit in enumerate(units):
        at = number % 5
        np.testing.assert_array_equal(unit.medium.frames, wanted[at : at + 2])
        assert (unit.medium.frame_index, unit.medium.start_seconds) == (at, None)


def test_sequences_between_the_frames_of_a_folder_are_not_paired_with_them(tmp_path: Path) -> None:
    for number, frame in enumerate(frames(3)):
        frame.save(tmp_path / f"{number}.png")
    (tmp_path / "1b.gif").write_bytes(sequence("GIF", 3))
    assert [unit.id for unit in units_of(tmp_path, "images")] == ["0.png", "1.png", "1b.gif#0", "1b.gif#1"]


def test_a_sequence_alone_is_read_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(sequence("GIF", 3))
    assert [unit.id for unit in units_of(tmp_path / "a.gif")] == ["a.gif#0", "a.gif#1"]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "JPEG", "BMP"])
def test_files_with_one_frame_are_frames_of_their_folder(form: str, tmp_path: Path) -> None:
    for number, frame in enumerate(frames(3)):
        frame.save(tmp_path / f"{number}.{form.lower()}", form)
    assert [unit.id for unit in units_of(tmp_path)] == [f"{number}.{form.lower()}" for number in range(2)]


def test_reduced_copies_of_a_tiff_are_not_frames() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for scale in (1, 2):
            writer.write(np.asarray(frames(1)[0])[::scale, ::scale], photometric="rgb", subfiletype=scale - 1)
    file.seek(0)
    assert not declares_several_frames(file)


def test_a_sequence_with_the_name_of_a_frame_is_quarantined_and_says_what_to_do(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / name).write_bytes(sequence("GIF", 4))
    (unit,) = units_of(tmp_path)
    assert isinstance(unit.error, BadMedium)
    assert str(unit.error).startswith("the file has 4 frames, so it is not one frame of the folder")


@pytest.mark.parametrize("form", SEQUENCES)
def test_a_damaged_sequence_gives_the_pairs_before_the_damage_and_errors(form: str, tmp_path: Path) -> None:
    data = sequence(form)
    (tmp_path / "a.gif").write_bytes(sequence("GIF"))
    entry = next(iter(mark_sequences(Store(str(tmp_path)), Store(str(tmp_path)).entries())))
    assert isinstance(entry, SequenceEntry)
    (tmp_path / f"b.{form.lower()}").write_bytes(data[: len(data) // 2])
    units = units_of(tmp_path)
    assert len(units) > 5
    assert [unit.error for unit in units[:5]] == [None] * 5
    assert isinstance(units[-1].error, BadMedium)
    for unit in units[5:]:
        assert unit.id.startswith(f"b.{form.lower()}")


def test_pages_of_different_sizes_fail_their_pairs_only(tmp_path: Path) -> None:
    first, second, third, fourth = frames(4)
    pages = [second, third.resize((8, 8)), fourth.resize((8, 8))]
    first.save(tmp_path / "a.tif", save_all=True, append_images=pages)
    units = units_of(tmp_path)
    assert [type(unit.error).__name__ for unit in units] == ["NoneType", "BadMedium", "NoneType"]


def test_files_that_cannot_be_opened_are_left_to_their_reader(tmp_path: Path) -> None:
    gone = Entry(key="gone.gif", size=7, version="1")
    assert list(mark_sequences(Store(str(tmp_path)), [gone])) == [gone]
    for data in (b"", b"GIF89a", b"II*\0\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"):
        (tmp_path / "a.gif").write_bytes(data)
        (entry,) = Store(str(tmp_path)).entries()
        assert list(mark_sequences(Store(str(tmp_path)), [entry])) == [entry]

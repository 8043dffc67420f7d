"""Image files as units: bad ones have an error and do not affect other files."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources import SOURCES, Piece, SourceOptions, Unit, discover, source_for
from pipeline.sources.image_source import IMAGES, MAX_FILE_BYTES
from pipeline.storage import AccessError, Changed, Missing, Store
from tests.decoded_units import decode_all


def jpeg(color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), color).save(file, "JPEG")
    return file.getvalue()


def planned(folder: Path) -> tuple[Store, list[Piece]]:
    """What a plan of the folder holds."""
    found = discover(str(folder), IMAGES)
    return found.store, [piece for entry in found.entries for piece in IMAGES.pieces(found.store, entry)]


def loaded(store: Store, pieces: list[Piece]) -> dict[str, Unit]:
    return {unit.id: unit for piece in pieces for unit in decode_all(IMAGES.units(store, piece))}


def test_a_file_is_one_unit_with_its_key_as_id(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a b#1?.jpg").write_bytes(jpeg())
    store, pieces = planned(tmp_path)
    (unit,) = loaded(store, pieces).values()
    assert (pieces[0].units, pieces[0].size, pieces[0].begin, pieces[0].end) == (1, len(jpeg()), None, None)
    assert (unit.id, unit.uri) == ("cats/a b#1?.jpg", f"{tmp_path}/cats/a b#1?.jpg")
    assert unit.version == pieces[0].version
    assert unit.error is None
    assert (unit.medium.dtype, unit.medium.shape) == (np.uint8, (12, 16, 3))


def test_the_content_decides_the_format_and_not_the_name(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "called.jpg")
    store, pieces = planned(tmp_path)
    assert loaded(store, pieces)["called.jpg"].medium.shape == (4, 5, 3)


def test_bad_files_do_not_affect_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(b"<html>moved</html>")
    (tmp_path / "c.jpg").write_bytes(b"")
    (tmp_path / "d.jpg").write_bytes(jpeg()[:-100])
    (tmp_path / "e.jpg").write_bytes(jpeg())
    store, pieces = planned(tmp_path)
    units = loaded(store, pieces)
    assert [name for name, unit in units.items() if unit.error is None] == ["a.jpg", "e.jpg"]
    for name in ("b.jpg", "c.jpg", "d.jpg"):
        assert units[name].medium is None
        assert isinstance(units[name].error, BadMedium), name


def test_deleted_and_changed_files_are_errors_that_say_so(tmp_path: Path) -> None:
    for name in ("changed.jpg", "gone.jpg", "here.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    store, pieces = planned(tmp_path)
    (tmp_path / "gone.jpg").unlink()
    (tmp_path / "changed.jpg").write_bytes(jpeg("blue"))
    units = loaded(store, pieces)
    assert isinstance(units["changed.jpg"].error, Changed)
    assert isinstance(units["gone.jpg"].error, Missing)
    assert units["here.jpg"].medium is not None


def test_a_file_too_large_for_memory_is_not_read(tmp_path: Path) -> None:
    piece = Piece(key="huge.tif", version="1", size=MAX_FILE_BYTES + 1, units=1)
    (unit,) = IMAGES.units(Store(str(tmp_path)), piece)  # which does not exist: reading it would be another error
    assert str(unit.error) == "the file has 536,870,913 bytes, at most 536,870,912 are read"


def test_lost_access_is_raised_and_not_quarantined(tmp_path: Path) -> None:
    with pytest.raises(AccessError):  # what a store says of a key outside its folder, as of a token that expired
        list(IMAGES.units(Store(str(tmp_path)), Piece(key="../a.jpg", version="1", size=1, units=1)))


def test_sources_are_picklable_and_have_unique_names() -> None:
    assert pickle.loads(pickle.dumps(IMAGES)) == IMAGES
    assert source_for("images", SourceOptions(medium="image")) == SOURCES["images"] == IMAGES
    with pytest.raises(ValueError, match=r"'jpegs' must be one of auto, .*images"):
        source_for("jpegs")

"""Units: known before anything of them is decoded, and decoded once, when somebody asks."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.media import BadMedium
from pipeline.sources import IMAGES, PARQUET, WEBDATASET, SourceOptions, Unit, record_media
from pipeline.sources import image_source as images_module
from pipeline.storage import AccessError, Store


def unit(decode: Any = None, **given: Any) -> Unit:
    return Unit(id="a.png", uri="/in/a.png", version="1", decode=decode, **given)


@pytest.mark.parametrize("first", ["medium", "error"])
def test_a_unit_is_decoded_once_when_it_is_asked_for(first: str) -> None:
    calls: list[int] = []
    found = unit(lambda: calls.append(1) or "decoded")
    assert (found.id, calls) == ("a.png", [])
    getattr(found, first)
    assert (found.medium, found.error, calls) == ("decoded", None, [1])
    found.medium = None
    assert (found.medium, calls) == (None, [1])


def test_what_decoding_raises_is_its_error() -> None:
    def fail() -> None:
        raise IndexError("list index out of range")

    found = unit(fail)
    assert found.medium is None
    assert isinstance(found.error, IndexError)


def test_lost_access_comes_out_of_it() -> None:
    def fail() -> None:
        raise AccessError("ExpiredToken")

    with pytest.raises(AccessError):
        _ = unit(fail).error


def test_one_that_is_given_up_is_not_decoded() -> None:
    found = unit(lambda: pytest.fail("it was decoded"))
    found.refuse(BadMedium("for a reason"))
    assert (found.medium, str(found.error)) == (None, "for a reason")


def test_one_with_its_medium_needs_no_decoding() -> None:
    assert unit(medium="text").medium == "text"
    assert str(unit(error=BadMedium("none")).error) == "none"


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    return (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["images", "parquet", "webdataset"])
def test_sources_decode_nothing_until_they_are_asked(
    kind: str, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "images":
        (folder / "a.png").write_bytes(picture)
    elif kind == "parquet":
        pq.write_table(pa.table({"image": [picture], "name": ["n"]}), folder / "a.parquet")
    else:
        with tarfile.open(folder / "a.tar", "w") as archive:
            member = tarfile.TarInfo("n.png")
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    decoded: list[int] = []
    for module in (images_module, record_media):
        real = module.decode_image  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "decode_image", lambda data, real=real: decoded.append(len(data)) or real(data))
    store = Store(str(folder))
    options = SourceOptions(medium="image", id_column="name" if kind == "parquet" else None)
    source = {"images": IMAGES, "parquet": PARQUET, "webdataset": WEBDATASET}[kind].configured(options)
    (piece,) = source.pieces(store, next(store.entries()))
    (found,) = source.units(store, piece)
    assert (found.id, decoded) == ({"images": "a.png", "parquet": "n", "webdataset": "a.tar#n"}[kind], [])
    assert found.medium.shape == (4, 4, 3)
    assert decoded == [len(picture)]

"""Units: their ids are known before anything is decoded, and `decode` decodes them."""

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
from pipeline.sources import IMAGES, PARQUET, WEBDATASET, SourceOptions, Unit
from pipeline.sources import image_source as images_module
from pipeline.sources.records import record_media
from pipeline.storage import AccessError, Store


def unit(**given: Any) -> Unit:
    return Unit(id="a.png", uri="/in/a.png", version="1", **given)


def test_a_unit_is_decoded_only_when_decode_is_called() -> None:
    calls: list[int] = []
    found = unit(decoder=lambda: calls.append(1) or "decoded")
    assert (found.id, found.medium, found.error, calls) == ("a.png", None, None, [])
    assert (found.decode(), calls) == ("decoded", [1])


def test_a_decoded_unit_does_not_keep_its_medium() -> None:
    for found in (unit(medium="text"), unit(decoder=lambda: "text")):
        assert found.decode() == "text"
        assert (found.medium, found.decoder) == (None, None)


def test_decode_raises_what_the_decoder_raises() -> None:
    def fail() -> None:
        raise IndexError("list index out of range")

    with pytest.raises(IndexError, match="list index out of range"):
        unit(decoder=fail).decode()


def test_decode_raises_lost_access() -> None:
    def fail() -> None:
        raise AccessError("ExpiredToken")

    with pytest.raises(AccessError, match="ExpiredToken"):
        unit(decoder=fail).decode()


def test_a_unit_with_an_error_is_not_decoded() -> None:
    found = unit(decoder=lambda: pytest.fail("it was decoded"), error=BadMedium("for a reason"))
    with pytest.raises(BadMedium, match="for a reason"):
        found.decode()


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    return (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["images", "parquet", "webdataset"])
def test_sources_decode_nothing_before_decode_is_called(
    kind: str, image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "images":
        (folder / "a.png").write_bytes(image)
    elif kind == "parquet":
        pq.write_table(pa.table({"image": [image], "name": ["n"]}), folder / "a.parquet")
    else:
        with tarfile.open(folder / "a.tar", "w") as archive:
            member = tarfile.TarInfo("n.png")
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
    decoded: list[int] = []
    for module in (images_module, record_media):
        real = module.decode_first_frame  # type: ignore[attr-defined]
        monkeypatch.setattr(
            module, "decode_first_frame", lambda data, rule, real=real: decoded.append(len(data)) or real(data, rule)
        )
    store = Store(str(folder))
    options = SourceOptions(medium="image", id_column="name" if kind == "parquet" else None)
    source = {"images": IMAGES, "parquet": PARQUET, "webdataset": WEBDATASET}[kind].configured(options)
    (piece,) = source.pieces(store, next(store.entries()))
    (found,) = source.units(store, piece)
    assert (found.id, decoded) == ({"images": "a.png", "parquet": "n", "webdataset": "a.tar#n"}[kind], [])
    assert found.decode().shape == (4, 4, 3)
    assert decoded == [len(image)]

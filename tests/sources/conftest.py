"""Folders on disk and in a bucket, and the units of a folder as a run reads them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipeline.sources import Unit, discover, source_for
from pipeline.sources.source import SourceOptions
from pipeline.storage import Store
from tests.decoded_units import decode_all


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a new, empty folder: on local disk, then in a bucket."""
    if request.param == "local":
        return Store(str(tmp_path / "in put"))
    return Store(f"{request.getfixturevalue('s3').bucket('records')}/in put")


@pytest.fixture
def units_of() -> Callable[..., list[Unit]]:
    """Return `units_of(store, name, **options)`: the decoded units of all pieces of a source, in plan order."""

    def units(store: Store, name: str, **options: Any) -> list[Unit]:
        source = pickle.loads(pickle.dumps(source_for(name, SourceOptions(**options))))
        found = discover(store.uri, source)
        pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
        given = []
        for piece in pickle.loads(pickle.dumps(pieces)):
            units = decode_all(source.units(found.store, piece))
            assert piece.units in (None, len(units))
            given += units
        assert len({unit.id for unit in given}) == len(given)
        return given

    return units


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """Return `png(number, size=(8, 6))`, the content of an image file that differs for each number."""

    def encode(number: int, size: tuple[int, int] = (8, 6)) -> bytes:
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A photograph of 160 × 120 pixels."""
    return Image.fromarray(skimage.data.astronaut()).resize((160, 120))

"""Loading a shard with good and bad units."""

import errno
import json
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.stages.load import load
from pipeline.runtime.stages.shard_format import unpack, unpack_arrays
from pipeline.runtime.stages.unit_reader import READ_THREADS, Loader
from pipeline.sources import IMAGES, Unit, discover
from pipeline.storage import AccessError, Denied, StorageError, Store
from pipeline.storage.local_folder import LocalFolder

DAMAGED = [5, 17, 18, 42, 59]


@pytest.fixture
def loader(image_folder, checkpoint, tmp_path) -> Loader:
    head = head_for("image-classification", checkpoint, HeadOptions())
    return Loader(inputs=Store(str(image_folder)), output=Store(str(tmp_path / "out")), source=IMAGES, head=head)


def load_all(loader: Loader) -> tuple[pa.Table, list[dict], dict]:
    """Units, quarantined and scalars of all inputs as one shard."""
    plan = freeze_plan(
        loader.output, IMAGES, lambda: discover(loader.inputs.uri, IMAGES), ShardSizing(unit_bytes=1, shard_size=1000)
    )
    return load_planned(loader, plan)


def load_planned(loader: Loader, plan) -> tuple[pa.Table, list[dict], dict]:
    file = plan.files[0]
    row = pa.table({"file": [file.name], "sha256": [file.sha256], "row": [0], "shard": [0]})
    units, quarantined, scalars = unpack(load(row, loader=loader))
    return units, quarantined.to_pylist(), scalars


def test_good_units_come_in_plan_order_with_their_arrays(loader, image_folder):
    units, _, scalars = load_all(loader)
    numbers = [number for number in range(60) if number not in DAMAGED]
    assert [int(name[:4]) for name in units.column("id").to_pylist()] == numbers
    images = unpack_arrays(units)["image"]
    head = loader.head
    for index in (0, 30, 54):
        unit_id = units.column("id")[index].as_py()
        medium = next(
            unit.decode()
            for piece in IMAGES.pieces(loader.inputs, next(e for e in loader.inputs.entries(unit_id)))
            for unit in IMAGES.units(loader.inputs, piece)
        )
        np.testing.assert_array_equal(images[index], head.transform(medium)["image"])
        assert units.column("uri")[index].as_py() == f"{image_folder}/{unit_id}"
    assert (scalars["shard"], scalars["segment"], scalars["fatal"]) == (0, 0, "")
    assert scalars["seconds_load"] > 0


def test_damaged_units_are_quarantined_with_their_reason(loader):
    _, quarantined, _ = load_all(loader)
    assert [int(unit["id"][:4]) for unit in quarantined] == DAMAGED
    for unit in quarantined:
        assert (unit["stage"], unit["attempts"]) == ("load", 1)
        assert unit["error"]
        assert unit["message"]


def test_input_gone_or_changed_since_the_plan_is_quarantined(loader, image_folder):
    plan = freeze_plan(
        loader.output, IMAGES, lambda: discover(str(image_folder), IMAGES), ShardSizing(unit_bytes=1, shard_size=1000)
    )
    (image_folder / "0001.png").unlink()
    (image_folder / "0003.png").write_bytes((image_folder / "0007.png").read_bytes())
    _, quarantined, _ = load_planned(loader, plan)
    reasons = {unit["id"]: unit["error"] for unit in quarantined}
    assert (reasons["0001.png"], reasons["0003.png"]) == ("Missing", "Changed")
    assert len(quarantined) == len(DAMAGED) + 2


class Fussy:
    """A head whose transform rejects images wider than high."""

    def __init__(self, head):
        self.head = head

    def transform(self, medium):
        if medium.shape[1] > medium.shape[0]:
            raise MemoryError("x" * 2000 + " token=abcdefgh")
        return self.head.transform(medium)


def test_error_of_a_transform_quarantines_its_unit_only(loader):
    units, quarantined, _ = load_all(replace(loader, head=Fussy(loader.head)))
    transform = [unit for unit in quarantined if unit["stage"] == "transform"]
    assert {unit["error"] for unit in transform} == {"MemoryError"}
    assert all(len(unit["message"]) == 500 for unit in transform)
    assert units.num_rows + len(quarantined) == 60
    assert 5 < len(transform) < 55


class Scripted:
    """A source of one unit per file, which `script` changes."""

    name, extensions = "images", IMAGES.extensions
    pieces = staticmethod(IMAGES.pieces)

    def __init__(self, script):
        self.script = script
        self.lock, self.reads = threading.Lock(), {}

    def units(self, store, piece):
        with self.lock:
            self.reads[piece.key] = self.reads.get(piece.key, 0) + 1
        unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
        self.script(self, piece, unit)
        yield unit


def blank_image(_source, _piece, unit):
    unit.medium = np.zeros((40, 40, 3), np.uint8)


def test_lost_access_ends_the_run_and_quarantines_nothing(loader):
    def script(source, piece, unit):
        blank_image(source, piece, unit)
        if piece.key == "0030.jpg":
            raise AccessError("no access when reading s3://b/k: ExpiredToken token=hunter2hunter2")

    units, quarantined, scalars = load_all(replace(loader, source=Scripted(script)))
    assert (units.num_rows, quarantined) == (0, [])
    assert "ExpiredToken" in scalars["fatal"]
    assert "hunter2" not in json.dumps(scalars)


def test_denied_unit_is_quarantined_while_the_witness_can_be_read(loader):
    def script(source, piece, unit):
        blank_image(source, piece, unit)
        if piece.key == "0030.jpg":
            unit.error = Denied("no access when reading s3://b/in/0030.jpg: Access Denied (AccessDenied)")

    units, quarantined, scalars = load_all(replace(loader, source=Scripted(script), witness="0000.jpg"))
    assert (units.num_rows, scalars["fatal"]) == (59, "")
    assert [(unit["id"], unit["error"]) for unit in quarantined] == [("0030.jpg", "Denied")]


def test_denied_units_end_the_run_once_the_witness_is_denied_too(loader, monkeypatch):
    def denied(folder, key, version, size):
        raise PermissionError(errno.EACCES, "Permission denied")

    def script(source, piece, unit):
        unit.error = Denied(f"no access when reading {piece.key}")

    loader = replace(loader, source=Scripted(script), witness="0000.jpg")
    monkeypatch.setattr(LocalFolder, "open", denied)
    units, quarantined, scalars = load_all(loader)
    assert (units.num_rows, quarantined) == (0, [])
    assert re.match(r"INPUT can no longer be read: no access when opening .*/0000\.jpg", scalars["fatal"])


def test_piece_is_read_again_after_a_transient_storage_error(loader):
    def script(source, piece, unit):
        blank_image(source, piece, unit)
        if piece.key == "0030.jpg" and source.reads[piece.key] < 2:
            unit.error = StorageError("503", transient=True)
        if piece.key == "0032.jpg":
            unit.error = StorageError("503", transient=True)
        if piece.key == "0034.jpg":
            unit.error = StorageError("not a file")

    source = Scripted(script)
    units, quarantined, _ = load_all(replace(loader, source=source))
    assert [(unit["id"], unit["attempts"]) for unit in quarantined] == [("0032.jpg", 2), ("0034.jpg", 1)]
    assert units.num_rows == 58
    assert (source.reads["0030.jpg"], source.reads["0031.png"]) == (2, 1)


def test_error_of_a_source_quarantines_its_piece_only(loader):
    def script(source, piece, unit):
        blank_image(source, piece, unit)
        if piece.key == "0030.jpg":
            raise IndexError("list index out of range")

    units, quarantined, _ = load_all(replace(loader, source=Scripted(script)))
    assert [(unit["id"], unit["error"], unit["stage"]) for unit in quarantined] == [("0030.jpg", "IndexError", "load")]
    assert units.num_rows == 59


def test_pieces_are_read_in_parallel(loader):
    meeting = threading.Barrier(READ_THREADS, timeout=20)

    def script(source, piece, unit):
        blank_image(source, piece, unit)
        if int(piece.key[:4]) < READ_THREADS:
            meeting.wait()

    units, _, _ = load_all(replace(loader, source=Scripted(script)))
    assert units.num_rows == 60, "a read that waits for its neighbours met them"


def test_media_are_freed_once_transformed(loader):
    """At most as many media as threads are alive at a time, however many units a shard has."""
    alive, most, lock = set(), [0], threading.Lock()

    class MediumKind(np.ndarray):
        def __del__(self):
            alive.discard(self.name) if getattr(self, "name", None) else None

    def script(source, piece, unit):
        medium = np.zeros((40, 40, 3), np.uint8).view(MediumKind)
        medium.name = piece.key
        with lock:
            alive.add(piece.key)
            most[0] = max(most[0], len(alive))
        time.sleep(0.001)
        unit.medium = medium

    load_all(replace(loader, source=Scripted(script)))
    assert most[0] <= READ_THREADS + 1

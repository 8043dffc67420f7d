"""DEST: exports continue where they stopped, overwrite nothing, and name files safely whatever the ids are."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.export.destination import Destination
from pipeline.export.export import export
from pipeline.results import open_run
from pipeline.results.find_units import NoRow
from pipeline.runtime.errors import UsageError
from pipeline.storage import AccessError, StorageFull, Store
from tests import example_runs
from tests.export.test_flow_files import read_flo, stored_flow

HOSTILE = ["../../escape", "/etc/passwd", "A.png", "a.png", "x" * 400]


def files(folder: Path) -> list[str]:
    """Return the exported files."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] not in ("_export", "index.csv"))


def index(folder: Path) -> dict[str, str]:
    with (folder / "index.csv").open(newline="") as file:
        return {row["id"]: row["file"] for row in csv.DictReader(file)}


def test_an_export_that_was_killed_continues(flow_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, dest = open_run(flow_run), str(tmp_path / "flo")
    put = Store.put_if_absent

    def die_at_the_third_file(store: Store, key: str, data: bytes) -> bool:
        if key.endswith(".flo") and len(files(tmp_path / "flo")) == 2:
            raise KeyboardInterrupt
        return put(store, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_if_absent", die_at_the_third_file)
        with pytest.raises(KeyboardInterrupt):
            export(results, dest, "flo")
    first = files(tmp_path / "flo")
    assert len(first) == 2
    times = {name: (tmp_path / "flo" / name).stat().st_mtime_ns for name in first}
    (tmp_path / "flo/_run/tmp").mkdir(parents=True, exist_ok=True)
    (tmp_path / "flo/_run/tmp/half-a-file").touch()
    exported = export(results, dest, "flo")
    assert (exported.written, exported.present, exported.rows) == (3, 2, 5)
    assert all((tmp_path / "flo" / name).stat().st_mtime_ns == time for name, time in times.items())
    exported = export(results, dest, "flo")
    assert (exported.written, exported.present, exported.rows) == (0, 5, 5)
    assert sorted(index(tmp_path / "flo").values()) == files(tmp_path / "flo")
    assert {path.name for path in (tmp_path / "flo/_export").iterdir()} == {"export.json", "names.jsonl"}
    assert not (tmp_path / "flo/_run").exists()


def test_hostile_ids_get_safe_files_that_the_index_names(flow_run: Path, tmp_path: Path) -> None:
    ids = iter(HOSTILE)
    output = example_runs.copied_with_rows(flow_run, tmp_path / "out", lambda row: row | {"id": next(ids)})
    outside = set(tmp_path.iterdir())
    for _ in range(2):
        export(open_run(output), str(tmp_path / "deep/er/flo"), "flo")
    folder = tmp_path / "deep/er/flo"
    assert set(tmp_path.iterdir()) == outside | {tmp_path / "deep"}
    named = index(folder)
    assert set(named) == set(HOSTILE)
    assert len({name.casefold() for name in named.values()}) == len(HOSTILE)
    assert sorted(named.values()) == files(folder)
    for unit, flow in stored_flow(output).items():
        np.testing.assert_array_equal(read_flo((folder / named[unit]).read_bytes()), flow)


def test_units_are_selected_by_id_and_condition(flow_run: Path, tmp_path: Path) -> None:
    results = open_run(flow_run)
    export(results, str(tmp_path / "ids"), "flo", ids=["two.mp4#0.040", "drives/one.mp4#0.000", "two.mp4#0.040"])
    assert files(tmp_path / "ids") == ["drives/one.mp4/0.000.flo", "two.mp4/0.040.flo"]
    export(results, str(tmp_path / "where"), "flo", where="start_seconds > 0.05 and id like 'drives/%'")
    assert files(tmp_path / "where") == ["drives/one.mp4/0.080.flo"]
    export(results, str(tmp_path / "both"), "flo", where="frame_index = 0", ids=["two.mp4#0.040", "two.mp4#0.000"])
    assert files(tmp_path / "both") == ["two.mp4/0.000.flo"]
    export(results, str(tmp_path / "none"), "flo", where="frame_index > 99")
    assert files(tmp_path / "none") == []


def test_wrong_ids_conditions_and_formats_are_refused_before_dest_is_made(flow_run: Path, tmp_path: Path) -> None:
    results, dest = open_run(flow_run), str(tmp_path / "dest")
    with pytest.raises(NoRow, match=r"'two\.mp4' is not the id of a unit .*; did you mean 'two\.mp4#0\.0[04]0' or"):
        export(results, dest, "flo", ids=["two.mp4"])
    with pytest.raises(UsageError, match=r"'frame', which must be one of the columns .*did you mean frame_index"):
        export(results, dest, "flo", where="frame > 3")
    with pytest.raises(UsageError, match=r"--to \(flow\) must be one of flo, kitti, .*did you mean"):
        export(results, dest, "flow")
    assert not (tmp_path / "dest").exists()


def test_a_folder_with_other_files_is_refused_and_stays(flow_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").write_bytes(b"mine")
    with pytest.raises(
        UsageError, match=r"holds other files, such as 'photo\.png', and nothing is overwritten: name a"
    ):
        export(open_run(flow_run), str(tmp_path / "mine"), "kitti")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["photo.png"]
    with pytest.raises(UsageError, match=r"photo\.png is a file; --to kitti writes to a folder"):
        export(open_run(flow_run), str(tmp_path / "mine/photo.png"), "kitti")


def test_a_folder_of_another_export_is_refused(flow_run: Path, image_run: Path, tmp_path: Path) -> None:
    results, dest = open_run(flow_run), str(tmp_path / "dest")
    export(results, dest, "flo", where="frame_index = 0")
    for to, where, words in [("kitti", "frame_index = 0", "format flo, not kitti"), ("flo", None, "not all")]:
        with pytest.raises(UsageError, match=f"holds another export .*{words}.*: name a new folder"):
            export(results, dest, to, where=where)
    with pytest.raises(UsageError, match=r"holds another export .*run "):
        export(open_run(image_run), dest, "dataset")


def test_a_file_that_appeared_in_dest_is_not_overwritten(flow_run: Path, tmp_path: Path) -> None:
    """Another program wrote it between two attempts, under a name that this export has not recorded."""
    results, dest = open_run(flow_run), tmp_path / "dest"
    export(results, str(dest), "flo", where="true", ids=["two.mp4#0.000"])
    for path in (dest / "two.mp4/0.000.flo", dest / "_export/names.jsonl"):
        path.unlink()
    (dest / "two.mp4/0.000.flo").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"two\.mp4/0\.000\.flo exists and is not of this export"):
        export(results, str(dest), "flo", where="true", ids=["two.mp4#0.000"])
    assert (dest / "two.mp4/0.000.flo").read_bytes() == b"mine"


@pytest.mark.parametrize("place", ["", "/flo", "/predictions/x", "/../out/y"])
def test_dest_in_output_is_refused(flow_run: Path, place: str) -> None:
    before = sorted(flow_run.rglob("*"))
    with pytest.raises(UsageError, match=r"lies in OUTPUT .*, which holds a run and nothing else: name another"):
        export(open_run(flow_run), f"{flow_run}{place}", "flo")
    with pytest.raises(UsageError, match="lies in OUTPUT"):
        export(open_run(flow_run), f"{flow_run}{place}", "csv")
    assert sorted(flow_run.rglob("*")) == before


def test_dest_in_output_through_a_link_and_in_input_are_refused(flow_run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(flow_run)
    with pytest.raises(UsageError, match="lies in OUTPUT"):
        export(open_run(flow_run), str(tmp_path / "link/flo"), "flo")
    with pytest.raises(UsageError, match=r"lies in INPUT .* where the next run would read the exported files"):
        export(open_run(flow_run), str(flow_run.parent / "in/flo"), "flo")


def test_a_full_disk_says_so_and_the_same_export_continues(
    flow_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def full(source: Path, target: Path) -> None:
        if str(target).endswith(".flo"):
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(StorageFull, match=r"no space when writing \d+ bytes to .*\.flo: No space left on device"):
            export(open_run(flow_run), str(tmp_path / "flo"), "flo")
    assert export(open_run(flow_run), str(tmp_path / "flo"), "flo").written == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(flow_run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AccessError):
        export(open_run(flow_run), str(tmp_path / "flo"), "flo")


def test_dest_may_be_in_object_storage(flow_run: Path, s3) -> None:
    dest = f"{s3.bucket('export')}/flo"
    for written, present in [(5, 0), (0, 5)]:
        exported = export(open_run(flow_run), dest, "flo")
        assert (exported.written, exported.present) == (written, present)
    flow = stored_flow(flow_run)
    for unit in flow:
        np.testing.assert_array_equal(read_flo(Store(dest).read(unit.replace("#", "/") + ".flo")), flow[unit])


def test_names_survive_a_kill_between_recording_and_writing(tmp_path: Path) -> None:
    identity = {"run": "r"}
    first = Destination(uri=str(tmp_path / "d"), identity=identity)
    first.open_folder()
    assert first.name_files([{"id": "A", "version": "1"}], ".flo") == ["A.flo"]
    second = Destination(uri=str(tmp_path / "d"), identity=identity)
    second.open_folder()
    (lower,) = second.name_files([{"id": "a", "version": "1"}], ".flo")
    assert lower.startswith("a~")
    assert second.name_files([{"id": "A", "version": "1"}], ".flo") == ["A.flo"]

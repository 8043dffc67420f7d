"""Of a Delta Lake table the files of the current version are read, as `deltalake` reads it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.sources import SourceOptions, Unit, discover, source_for
from pipeline.sources.listing.delta_tables import LOG
from pipeline.storage import AccessError, Reason, Store
from tests.decoded_units import decode_all


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of several versions with partitions, of which rows were deleted."""
    folder = tmp_path / "in/table"
    first = pa.table({"text": ["a", "b", "c"], "lang": ["de", "en GB", "x=y"]})
    write_deltalake(folder, first, partition_by=["lang"])
    write_deltalake(folder, pa.table({"text": ["d", "e"], "lang": ["de", "fr"]}), mode="append")
    DeltaTable(folder).delete("text = 'a' or text = 'e'")
    return folder


def read(uri: str, *keep: str) -> tuple[list[Unit], dict[str, str]]:
    """Return the units, and what is left out."""
    source = source_for("auto", SourceOptions(keep=keep))
    found = discover(uri, source)
    pieces = [piece for entry in found.entries for piece in source.pieces(found.store, entry)]
    units = [unit for piece in pieces for unit in decode_all(source.units(found.store, piece))]
    return units, dict(found.left_out.entries())


def rows(table: Path) -> list[tuple[str, str]]:
    data = pa.table(DeltaTable(table).to_pyarrow_table())
    return sorted(zip(data["text"].to_pylist(), data["lang"].to_pylist(), strict=True))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_rows_are_those_of_the_current_version_with_its_partitions(table: Path, checkpoint: bool) -> None:
    if checkpoint:
        DeltaTable(table).create_checkpoint()
    for uri in (table, table.parent, table / "**/*.parquet"):
        units, left_out = read(str(uri), "lang")
        assert sorted((unit.medium, unit.kept["lang"]) for unit in units) == rows(table)
        data = {key: reason for key, reason in left_out.items() if LOG not in key}
        assert list(data.values()) == [Reason.NOT_CURRENT] * 2
        assert all(reason == Reason.TABLE_METADATA for key, reason in left_out.items() if LOG in key)


def test_rows_of_a_table_in_a_bucket(table: Path, s3) -> None:
    store = Store(s3.bucket("delta"))
    for path in table.rglob("*"):
        if path.is_file():
            store.put(f"a b/{path.relative_to(table)}", path.read_bytes())
    units, _ = read(store.uri, "lang")
    assert sorted((unit.medium, unit.kept["lang"]) for unit in units) == rows(table)


def test_missing_file_of_the_current_version_is_refused_with_its_name(table: Path) -> None:
    (file,) = (table / "lang=x%3Dy").iterdir()
    file.unlink()
    with pytest.raises(
        AccessError, match=rf"table/: the current version of this table lacks 1 file, such as .*{file.name}"
    ):
        read(str(table.parent))


def test_partition_as_input_is_refused_with_the_remedy(table: Path) -> None:
    with pytest.raises(AccessError, match=r"lang=de is a part of .*/in/table, a Delta Lake table: name the table"):
        read(str(table / "lang=de"))


def log_of(table: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted((table / LOG).iterdir()) for line in file.read_text().splitlines()]


def write_log(table: Path, *actions: dict[str, Any]) -> None:
    """Add a version to the log."""
    lines = "\n".join(map(json.dumps, actions))
    (table / LOG / f"{len(list((table / LOG).iterdir())):020}.json").write_text(lines)


def test_table_with_deletion_vectors_is_refused(table: Path) -> None:
    expected, features = rows(table), {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    write_log(table, {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}})
    assert len(read(str(table))[0]) == len(expected), "the feature alone deletes nothing"
    added = [action["add"] for action in log_of(table) if "add" in action][-1]
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4}
    write_log(table, {"add": {**added, "deletionVector": {**vector, "sizeInBytes": 40, "cardinality": 1}}})
    with pytest.raises(AccessError, match="table is a Delta Lake table with deletion vectors, which are not supported"):
        read(str(table))


def test_table_with_renamed_columns_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"text": ["a"]}))
    metadata = next(action["metaData"] for action in log_of(tmp_path) if "metaData" in action)
    schema, name = json.loads(metadata["schemaString"]), "delta.columnMapping"
    schema["fields"][0]["metadata"] = {f"{name}.id": 1, f"{name}.physicalName": "column-1"}
    metadata |= {"schemaString": json.dumps(schema), "configuration": {f"{name}.mode": "name"}}
    write_log(tmp_path, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, {"metaData": metadata})
    with pytest.raises(AccessError, match=r"columns that have other names in its files \(.*columnMapping.mode is name"):
        read(str(tmp_path))


def test_damaged_log_is_refused_without_a_traceback(table: Path) -> None:
    for file in (table / LOG).iterdir():
        file.write_text("{")
    with pytest.raises(
        AccessError, match=r"table: the log of the Delta Lake table cannot be read: .*Json error: .*glob"
    ):
        read(str(table))


def test_without_the_package_the_extra_is_named(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(AccessError, match=r"table is a Delta Lake table, .*pip install 'perceiver-pipeline\[delta\]'"):
        read(str(table))


def test_names_in_the_log_lead_nowhere_else(table: Path, tmp_path: Path) -> None:
    shutil.copy(table / "_delta_log/00000000000000000000.json", table / "_delta_log/odd name.json")
    assert sorted(unit.medium for unit in read(str(table))[0]) == [text for text, _ in rows(table)]

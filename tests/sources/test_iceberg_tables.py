"""Of an Iceberg table the files of the current version are read, as `pyiceberg` reads it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table

from pipeline.storage import AccessError, Reason, Store
from tests.sources.test_delta_tables import read

SCHEMA = pa.schema([("text", pa.large_string()), ("lang", pa.large_string())])


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table of several versions, of which a file was rewritten without one of its rows, in the folder `in/n/t`."""
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/in")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", SCHEMA)
    made.append(pa.table({"text": ["a", "b", "c"], "lang": ["de", "en", "en"]}, SCHEMA))
    made.append(pa.table({"text": ["d", "e"], "lang": ["de", "fr"]}, SCHEMA))
    made.delete("text = 'a'")
    return made


def folder_of(table: Table) -> Path:
    return Path(table.location().removeprefix("file://"))


def rows(table: Table) -> list[tuple[str, str]]:
    data = table.scan().to_arrow()
    return sorted(zip(data["text"].to_pylist(), data["lang"].to_pylist(), strict=True))


def test_rows_are_those_of_the_current_version(table: Table) -> None:
    folder = folder_of(table)
    for uri in (folder, folder.parent.parent, folder / "**/*.parquet"):
        units, left_out = read(str(uri), "lang")
        assert sorted((unit.medium, unit.kept["lang"]) for unit in units) == rows(table)
        data = [reason for key, reason in left_out.items() if "metadata/" not in key]
        assert data == [Reason.NOT_CURRENT]
        assert all(reason == Reason.TABLE_METADATA for key, reason in left_out.items() if "metadata/" in key)


def test_rows_of_a_table_that_was_copied_to_a_bucket(table: Table, s3) -> None:
    store, folder = Store(s3.bucket("iceberg")), folder_of(table)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(f"a b/{path.relative_to(folder)}", path.read_bytes())
    units, _ = read(store.uri, "lang")
    assert sorted((unit.medium, unit.kept["lang"]) for unit in units) == rows(table)


def test_table_without_rows_has_none(table: Table) -> None:
    table.delete()
    with pytest.raises(AccessError, match="not in the current version of its table"):
        read(str(folder_of(table)))


def test_missing_file_of_the_current_version_is_refused_with_its_name(table: Table) -> None:
    file = Path(next(iter(table.scan().plan_files())).file.file_path.removeprefix("file://"))
    file.unlink()
    with pytest.raises(
        AccessError, match=rf"current version of this table lacks 1 file, such as .*{file.name}.*an Iceberg"
    ):
        read(str(folder_of(table).parent))


def test_data_folder_as_input_is_refused_with_the_remedy(table: Table) -> None:
    with pytest.raises(AccessError, match=r"data is a part of .*/in/n/t, an Iceberg table: name the table as INPUT"):
        read(str(folder_of(table) / "data"))


def test_table_with_deleted_rows_in_files_is_refused(table: Table) -> None:
    file = next(iter(table.scan().plan_files())).file
    known = {name: getattr(file, name) for name in ("file_path", "file_format", "partition", "record_count")}
    known |= {"file_size_in_bytes": file.file_size_in_bytes, "content": DataFileContent.POSITION_DELETES}
    deletes = DataFile.from_args(**known)
    deletes.spec_id = 0
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(deletes)
    with pytest.raises(AccessError, match="t is an Iceberg table with deletes of single rows, which are not supported"):
        read(str(folder_of(table)))


def test_table_with_renamed_columns_is_refused(table: Table) -> None:
    with table.update_schema() as update:
        update.rename_column("lang", "language")
    with pytest.raises(AccessError, match="columns that have other names in some of its files, which are not supp"):
        read(str(folder_of(table)))


def test_two_newest_metadata_files_are_refused(table: Table) -> None:
    newest = Path(table.metadata_location.removeprefix("file://"))
    shutil.copy(newest, newest.with_name(f"{newest.name[:6]}other.metadata.json"))
    with pytest.raises(AccessError, match="have the same number: only a catalog knows which is current"):
        read(str(folder_of(table)))


def test_metadata_that_leads_out_of_the_table_is_refused(table: Table) -> None:
    newest = Path(table.metadata_location.removeprefix("file://"))
    newest.write_text(newest.read_text().replace("/metadata/snap", "/../elsewhere/snap"))
    with pytest.raises(AccessError, match=r"cannot be read: .*elsewhere.* is not in the folder of the table"):
        read(str(folder_of(table)))


def test_damaged_metadata_is_refused_without_a_traceback(table: Table) -> None:
    Path(table.metadata_location.removeprefix("file://")).write_text("{")
    with pytest.raises(AccessError, match=r"t: the metadata of the Iceberg table cannot be read: .*glob"):
        read(str(folder_of(table)))


def test_without_the_package_the_extra_is_named(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.serializers", None)
    with pytest.raises(AccessError, match=r"t is an Iceberg table, .*pip install 'perceiver-pipeline\[iceberg\]'"):
        read(str(folder_of(table)))

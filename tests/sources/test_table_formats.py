"""Tables of Delta Lake, Iceberg and Hudi are never read as loose Parquet files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources import SourceOptions, discover, source_for
from pipeline.sources.listing import outputs_in_input as lookahead_module
from pipeline.storage import AccessError, Reason, Store

# Of Iceberg tables whose metadata cannot be read, which are refused as Hudi tables are.
FORMATS = {
    "metadata/00000-0a1b.metadata.json": ("the metadata of the Iceberg table cannot be read", "an Iceberg table"),
    "metadata/v1.metadata.json": ("the metadata of the Iceberg table cannot be read", "an Iceberg table"),
    ".hoodie/hoodie.properties": ("is a Hudi table: .*", "is a Hudi table"),
}
DATA = ("0.parquet", "data/0.parquet", "year=2024/lang=de/x.parquet", "data/part-00000")


@pytest.fixture
def parquet(tmp_path: Path) -> bytes:
    pq.write_table(pa.table({"text": ["deleted long ago"]}), tmp_path / "a.parquet")
    return (tmp_path / "a.parquet").read_bytes()


def keys(uri: str, **options: str) -> list[str]:
    return [entry.key for entry in discover(uri, source_for("auto", SourceOptions(**options))).entries]  # type: ignore[arg-type]


@pytest.mark.parametrize("metadata", FORMATS)
@pytest.mark.parametrize("data", DATA)
def test_table_is_refused_with_its_kind_before_any_of_its_files_is_read(
    tmp_path: Path, parquet: bytes, metadata: str, data: str
) -> None:
    folder = Store(str(tmp_path / "in"))
    folder.put(f"tables/one/{metadata}", b"{}")
    folder.put(f"tables/one/{data}", parquet)
    table = folder.uri_of("tables/one")
    message = f"{re.escape(table)}:? {FORMATS[metadata][0]}.*Write its current version as Parquet files"
    for uri in (table, folder.uri, f"{folder.uri}/**"):
        with pytest.raises(AccessError, match=message):
            next(discover(uri, source_for("auto", SourceOptions())).entries)


@pytest.mark.parametrize("metadata", list(FORMATS)[:2])
def test_table_in_a_bucket_is_refused_however_far_its_metadata_lies_behind_its_files(
    s3, parquet: bytes, metadata: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookahead_module, "_AHEAD", 1)
    folder = Store(s3.bucket("tables"))
    folder.put(f"one/{metadata}", b"{}")
    folder.put("one/data/0.parquet", parquet)
    for uri in (folder.uri, folder.uri_of("one/data"), folder.uri_of("*/*/0.parquet")):
        with pytest.raises(AccessError, match=f"{re.escape(folder.uri_of('one'))}(, an|:.* the) Iceberg table"):
            keys(uri)


@pytest.mark.parametrize("metadata", FORMATS)
def test_partition_of_a_table_is_refused_too(tmp_path: Path, parquet: bytes, metadata: str) -> None:
    folder = Store(str(tmp_path))
    folder.put(f"t/{metadata}", b"{}")
    folder.put("t/data/lang=de/0.parquet", parquet)
    for below in ("t/data", "t/data/lang=de", "t/data/*/*.parquet"):
        with pytest.raises(AccessError, match=f"{re.escape(folder.uri_of('t'))}.* {FORMATS[metadata][1]}"):
            keys(folder.uri_of(below))


@pytest.mark.parametrize("metadata", FORMATS)
def test_other_files_next_to_a_table_are_read_by_a_glob_and_a_file_by_its_name(
    tmp_path: Path, parquet: bytes, metadata: str
) -> None:
    folder = Store(str(tmp_path))
    folder.put(f"t/{metadata}", b"{}")
    folder.put("t/0.parquet", parquet)
    folder.put("other/0.parquet", parquet)
    folder.put("a.txt", b"a")
    assert keys(folder.uri_of("other")) == ["0.parquet"]
    assert keys(folder.uri_of("*/*.txt").replace("*/", "")) == ["a.txt"]
    assert keys(folder.uri_of("o*/*.parquet")) == ["other/0.parquet"]
    assert keys(folder.uri_of("t/0.parquet")) == ["0.parquet"]


def test_metadata_is_left_out_where_the_table_is_no_concern(tmp_path: Path, png: Callable[..., bytes]) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log/0.json").write_text("{}")
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    found = discover(str(tmp_path), source_for("images", SourceOptions(medium="image")))
    assert [entry.key for entry in found.entries] == ["0.png"]
    assert dict(found.left_out.entries()) == {
        "_delta_log/0.json": Reason.TABLE_METADATA,
        "a.parquet": Reason.OTHER_FORMAT,
    }


def test_folder_called_metadata_without_that_of_iceberg_is_none(tmp_path: Path, parquet: bytes) -> None:
    for name in ("in/metadata/readme.json", "in/metadata/0.parquet", "in/data/0.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(parquet)
    assert keys(str(tmp_path / "in")) == ["data/0.parquet", "metadata/0.parquet"]

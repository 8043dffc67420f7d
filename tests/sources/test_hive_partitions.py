"""Folders called lang=de: their values can be kept as columns, as pyarrow reads Hive partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline.sources import SourceOptions, discover, source_for
from pipeline.sources.listing.folder_values import partition_values
from pipeline.storage import AccessError, Reason
from tests.decoded_units import decode_all
from tests.sources.test_webdataset_source import tar


def kept(uri: Path | str, *keep: str, **options: Any) -> tuple[list[dict[str, Any]], pa.Schema]:
    """Return the kept columns of all units, and their schema."""
    source = source_for("auto", SourceOptions(keep=keep, **options))
    found = discover(str(uri), source)
    entries = list(found.entries)
    pieces = [piece for entry in entries for piece in source.pieces(found.store, entry)]
    units = [unit for piece in pieces for unit in decode_all(source.units(found.store, piece))]
    assert [unit.error for unit in units if unit.error] == []
    schemas = {source.kept(found.store, entry) for entry in entries}
    assert len(schemas) == 1
    return [{name: unit.kept[name] for name in keep} for unit in units], schemas.pop()


PARTITIONS = [
    "lang=de",
    "lang=en%20GB",
    "lang=a+b",
    "lang=__HIVE_DEFAULT_PARTITION__",
    "lang=gr%C3%BC%C3%9Fe",
    "lang=x=y",
]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_values_of_folders_are_those_of_pyarrow(tmp_path: Path, partition: str) -> None:
    (tmp_path / partition).mkdir()
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / partition / "part-0.parquet")
    partitioning = pa.dataset.partitioning(pa.schema([("lang", pa.string())]), flavor="hive")
    expected = pa.dataset.dataset(tmp_path, partitioning=partitioning).to_table()["lang"].to_pylist()
    rows, schema = kept(tmp_path, "lang")
    assert [row["lang"] for row in rows] == expected
    assert schema == pa.schema([("lang", pa.string())])


def test_every_kind_of_file_has_the_columns_of_its_folders(tmp_path: Path, png: Callable[..., bytes]) -> None:
    texts = tmp_path / "texts/year=2024/lang=de"
    texts.mkdir(parents=True)
    (texts / "a.csv").write_text("text\none\n")
    (texts / "b.jsonl").write_text('{"text": "two"}\n')
    (texts / "c.tar").write_bytes(tar([("0.txt", b"three")]))
    (texts / "d.txt").write_text("four\n")
    pq.write_table(pa.table({"text": ["five"]}), texts / "e.parquet")
    assert kept(tmp_path / "texts", "lang", "year")[0] == [{"lang": "de", "year": "2024"}] * 5
    assert kept(tmp_path / "texts", "lang", text_unit="file")[0] == [{"lang": "de"}] * 5
    images = tmp_path / "images/lang=de"
    images.mkdir(parents=True)
    (images / "0.png").write_bytes(png(0))
    assert kept(tmp_path / "images", "lang", medium="image")[0] == [{"lang": "de"}]


def test_column_of_the_file_comes_before_that_of_its_folders(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"n={number}").mkdir()
        pq.write_table(pa.table({"text": ["a"], "n": [7], "lang": ["de"]}), tmp_path / f"n={number}/0.parquet")
    rows, schema = kept(tmp_path, "n", "lang")
    assert (rows, schema.field("n").type) == ([{"n": 7, "lang": "de"}] * 2, pa.int64())
    (tmp_path / "lang=en").mkdir()
    (tmp_path / "lang=en/0.jsonl").write_text('{"text": "a", "lang": "fr"}\n{"text": "b"}\n')
    assert [row["lang"] for row in kept(tmp_path / "lang=*/*", "lang")[0]] == ["fr", "en"]


def test_file_without_the_column_in_its_folders_or_itself_is_refused(tmp_path: Path) -> None:
    for name in ("lang=de", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("text\none\n")
    with pytest.raises(AccessError, match=r"other/a\.csv: column 'lang' not found; available columns: text"):
        kept(tmp_path, "lang")


def test_text_outside_of_the_partitions_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "lang=de").mkdir()
    (tmp_path / "lang=de/a.txt").write_text("one\n")
    (tmp_path / "b.txt").write_text("two\n")
    found = discover(str(tmp_path), source_for("auto", SourceOptions(keep=("lang",))))
    assert [entry.key for entry in found.entries] == ["lang=de/a.txt"]
    assert dict(found.left_out.entries()) == {"b.txt": Reason.NO_COLUMNS}


def test_path_of_input_itself_names_no_column(tmp_path: Path) -> None:
    (tmp_path / "lang=de").mkdir()
    (tmp_path / "lang=de/a.csv").write_text("text\none\n")
    with pytest.raises(AccessError, match="column 'lang' not found"):
        kept(tmp_path / "lang=de", "lang")
    assert kept(tmp_path / "lang=*/*.csv", "lang")[0] == [{"lang": "de"}]


def test_folder_never_gives_the_text_itself(tmp_path: Path) -> None:
    (tmp_path / "text=hello").mkdir()
    (tmp_path / "text=hello/a.csv").write_text("other\none\n")
    with pytest.raises(AccessError, match="column 'text' not found"):
        kept(tmp_path, "text")


@pytest.mark.parametrize(
    ("key", "values"),
    [("a.csv", {}), ("lang=de.csv", {}), ("=de/a", {}), ("a=1/a=2/x", {"a": "2"}), ("a=/x", {"a": ""})],
)
def test_only_folders_of_the_form_name_value_count(key: str, values: dict[str, str]) -> None:
    assert partition_values(key) == values

"""Archived and denied objects cost their own units; access that is lost in general ends the run."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources.access import check_witness, find_witness
from pipeline.storage import AccessError, Archived, Denied, Entry, Missing, Store
from pipeline.storage.errors import is_transient, translate
from tests.sources.test_webdataset_source import tar


def table(*texts: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    return file.getvalue()


@pytest.fixture
def archive(s3: Any) -> Any:
    """`archive(files, cold)`: a folder of a bucket with these files; those in `cold` are in Glacier."""

    def make(files: dict[str, bytes], cold: set[str]) -> Store:
        bucket = s3.bucket("archive").removeprefix("s3://")
        for key, data in files.items():
            storage_class = "GLACIER" if key in cold else "STANDARD"
            s3.client.put_object(Bucket=bucket, Key=f"in/{key}", Body=data, StorageClass=storage_class)
        return Store(f"s3://{bucket}/in")

    return make


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("images", ["a.png", "b.png"]),
        ("parquet", ["a.parquet", "b.parquet"]),
        ("csv", ["a.csv", "b.csv"]),
        ("jsonl", ["a.jsonl", "b.jsonl"]),
        ("text", ["a.txt", "b.txt"]),
        ("webdataset", ["a.tar", "b.tar"]),
    ],
)
def test_archived_file_is_quarantined_with_its_reason(archive, units_of, png, name: str, files: list[str]) -> None:
    content = {
        "images": png(1),
        "parquet": table("good"),
        "csv": b"text\ngood\n",
        "jsonl": b'{"text": "good"}\n',
        "text": b"good\n",
        "webdataset": tar([("0.txt", b"good")]),
    }[name]
    store = archive(dict.fromkeys(files, content), {files[0]})
    cold, warm = units_of(store, name, medium="image" if name == "images" else "text")
    assert isinstance(cold.error, Archived)
    assert "archived and must be restored" in str(cold.error)
    assert "InvalidObjectState" in str(cold.error)
    assert cold.id.startswith(files[0])
    assert warm.error is None


def test_witness_is_the_first_file_that_can_be_read(archive, png) -> None:
    store = archive({f"{number}.png": png(number) for number in range(4)}, {"0.png", "1.png"})
    assert find_witness(store, store.entries()) == "2.png"
    check_witness(store, "2.png")
    check_witness(store, "deleted.png")
    check_witness(store, "")


def test_input_of_which_nothing_can_be_read_is_refused(archive, png) -> None:
    store = archive({f"{number}.png": png(number) for number in range(3)}, {"0.png", "1.png", "2.png"})
    with pytest.raises(AccessError, match=r"none of the files can be read \(3 tried\): .*0\.png.*InvalidObjectState"):
        find_witness(store, store.entries())


def test_few_of_many_files_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def read(_: Store, key: str) -> None:
        tried.append(key)
        if int(key) < 900:
            raise Denied("no")

    monkeypatch.setattr("pipeline.sources.access._read_byte", read)
    entries = (Entry(key=str(number), size=1, version="v") for number in range(2000))
    assert find_witness(Store("/in"), entries) == "1024"
    assert tried == [*map(str, range(64)), "64", "128", "256", "512", "1024"]


def test_witness_that_is_denied_later_is_lost_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise Denied("no access when opening s3://b/in/0.png")

    monkeypatch.setattr("pipeline.sources.access._read_byte", denied)
    with pytest.raises(AccessError, match=r"INPUT can no longer be read: .*s3://b/in/0\.png") as caught:
        check_witness(Store("s3://b/in"), "0.png")
    assert not isinstance(caught.value, Denied)


def test_unreadable_files_say_nothing_about_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise Missing("gone")

    monkeypatch.setattr("pipeline.sources.access._read_byte", missing)
    assert find_witness(Store("/in"), [Entry(key="0", size=1, version="v")]) == ""
    check_witness(Store("/in"), "0")


def test_archived_blob_of_azure_is_not_retried() -> None:
    error = OSError("conflict")
    error.__cause__ = type("HttpResponseError", (Exception,), {"status_code": 409, "error_code": "BlobArchived"})()
    assert type(translate(error, "az://c/key", "reading")) is Archived
    assert not is_transient(error)

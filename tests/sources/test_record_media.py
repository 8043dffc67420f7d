"""Media from columns: texts, images by bytes and by path, pairs, arrays. Nothing outside INPUT is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.media import BadMedium, MediumKind
from pipeline.sources import SOURCES, SourceOptions, Unit
from pipeline.sources.images.image_decoding import decode_image
from pipeline.sources.records import record_media as values_module
from pipeline.sources.records.record_media import key_of, medium_of
from pipeline.sources.records.record_reader import RecordRequest
from pipeline.storage import Changed, Missing, Store

Png = Callable[..., bytes]
UnitsOf = Callable[..., list[Unit]]


@pytest.fixture
def images(folder: Store, png: Png) -> Store:
    """Return a folder with images next to, below and above a table at `tables/t.parquet`."""
    for number, key in enumerate(["tables/a b.png", "tables/images/#1?.png", "top.png"]):
        folder.put(key, png(number))
    return folder


def medium(store: Store, kind: MediumKind, **values: Any) -> Any:
    """Return the medium in the columns of row 17 of the table."""
    request = RecordRequest(options=SourceOptions(medium=kind), medium_columns=tuple(values))
    return medium_of(values, 17, request, store, "tables/t.parquet", unit())


def unit() -> Unit:
    return Unit(id="t.parquet#17", uri="/in/t.parquet", version="1")


def test_an_image_is_bytes_or_a_struct_or_a_path(images: Store, png: Png) -> None:
    sibling, below = decode_image(png(0)), decode_image(png(1))
    for value in (png(0), {"bytes": png(0), "path": None}, {"bytes": None, "path": "a b.png"}, "a b.png", "./a b.png"):
        image = medium(images, "image", image=value)
        np.testing.assert_array_equal(image, sibling)
    np.testing.assert_array_equal(medium(images, "image", x="images/#1?.png"), below)
    struct = {"bytes": png(1), "path": "/somewhere/else.png"}  # as `datasets` stores what it has embedded
    np.testing.assert_array_equal(medium(images, "image", x=struct), below)


def test_a_path_may_start_with_the_uri_of_the_input(images: Store, png: Png) -> None:
    path = f"{images.uri}/top.png"
    np.testing.assert_array_equal(medium(images, "image", x=path), decode_image(png(2)))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../top.png", "not a path of a file in the folder of the table"),
        ("images/../../top.png", "not a path of a file in the folder of the table"),
        ("/etc/hostname", "an absolute path"),
        ("file:///etc/hostname", "is a URI"),
        ("http://127.0.0.1:1/a.png", "is a URI"),
        ("s3://another-bucket/a.png", "is a URI"),
        ("a\0.png", "not a path"),
        ("", "not a path"),
        (".", "not a path"),
    ],
)
def test_no_path_leads_out_of_the_input(images: Store, path: str, words: str) -> None:
    with pytest.raises(BadMedium, match=words):
        medium(images, "image", image=path)
    with pytest.raises(BadMedium, match="not a path"):
        medium(images, "image", image=f"{images.uri}/../top.png")


def uris(units: list[Unit], store: Store) -> list[str]:
    return [unit.uri.removeprefix(f"{store.uri}/") for unit in units]


def test_a_row_has_the_uri_and_the_version_of_the_file_that_it_names(images: Store, units_of: UnitsOf) -> None:
    paths = ["a b.png", "./images/#1?.png", f"{images.uri}/top.png", "gone.png"]
    images.put("tables/t.jsonl", "".join(json.dumps({"image": path}) + "\n" for path in paths).encode())
    units = units_of(images, "jsonl", medium="image")
    assert [unit.id.partition("#")[0] for unit in units] == ["tables/t.jsonl"] * 4
    assert uris(units, images) == ["tables/a b.png", "tables/images/#1?.png", "top.png", "tables/gone.png"]
    versions = {f"{images.uri}/{entry.key}": entry.version for entry in images.entries()}
    assert [unit.version for unit in units[:3]] == [versions[unit.uri] for unit in units[:3]]
    assert isinstance(units[3].error, Missing)


def test_a_row_with_the_content_of_its_image_has_the_uri_of_its_table(
    images: Store, units_of: UnitsOf, png: Png, tmp_path: Path
) -> None:
    values = [{"bytes": png(0), "path": "a b.png"}, {"bytes": None, "path": "a b.png"}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": values}), tmp_path / "t.parquet")
    images.put("tables/t.parquet", (tmp_path / "t.parquet").read_bytes())
    units = units_of(images, "parquet", medium="image")
    assert uris(units, images) == ["tables/t.parquet", "tables/a b.png", "tables/t.parquet"]
    versions = {entry.key: entry.version for entry in images.entries()}
    assert [unit.version for unit in units[:2]] == [versions["tables/t.parquet"], versions["tables/a b.png"]]


def test_a_pair_has_the_uri_and_the_version_of_its_first_frame(images: Store, units_of: UnitsOf, png: Png) -> None:
    images.put("tables/pairs.csv", b"left,right\na b.png,images/#1?.png\nimages/#1?.png,gone.png\n")
    units = units_of(images, "csv", medium="frame_pair", column="left,right")
    assert uris(units, images) == ["tables/a b.png", "tables/images/#1?.png"]
    assert units[0].version == images.entry("tables/a b.png").version


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("https://host/a.jpg?X-Amz-Signature=0123456789abcdef", "https://host/a.jpg?X-Amz-Signature=***"),
        ("s3://user:password@bucket/a.jpg", "s3://***@bucket/a.jpg"),
        ("a.jpg?token=abcdefgh", "IN/a.jpg?token=***"),
        ("/elsewhere/a.jpg", "/elsewhere/a.jpg"),
        ("../a.jpg", "IN/t.jsonl"),
        ("", "IN/t.jsonl"),
        (None, "IN/t.jsonl"),
        (3, "IN/t.jsonl"),
        ("\ud800.jpg", "IN/\ufffd.jpg"),
        ("x" * 5000, "IN/t.jsonl"),
    ],
)
def test_a_row_whose_path_cannot_be_read_has_its_uri_without_secrets(
    tmp_path: Path, units_of: UnitsOf, path: Any, uri: str
) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": path}))
    (unit,) = units_of(Store(str(tmp_path)), "jsonl", medium="image")
    assert unit.error is not None
    assert unit.uri == uri.replace("IN", str(tmp_path))


def test_an_image_that_changes_between_its_version_and_its_content_is_not_predicted(
    images: Store, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = images.entry("tables/a b.png")
    images.put("tables/a b.png", png(9))
    monkeypatch.setattr(Store, "entry", lambda *_: found)
    with pytest.raises(Changed):
        medium(images, "image", image="a b.png")


def test_paths_of_missing_and_too_large_files_are_refused(images: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Missing):
        medium(images, "image", image="b.png")
    monkeypatch.setattr(values_module, "MAX_FILE_BYTES", 10)
    with pytest.raises(BadMedium, match=r"'a b\.png' has \d+ bytes, at most 10 are read"):
        medium(images, "image", image="a b.png")


def test_keys_of_a_bucket_may_have_empty_names(tmp_path: Path) -> None:
    assert key_of("a//b.png", Store("s3://bucket/in"), "t.csv") == "a//b.png"
    assert key_of("a//b.png", Store(str(tmp_path)), "t.csv") == "a/b.png"


def test_a_pair_is_two_images_of_one_size(images: Store, png: Png) -> None:
    pair = medium(images, "frame_pair", a=png(4), b="a b.png")
    np.testing.assert_array_equal(pair.frames, [decode_image(png(4)), decode_image(png(0))])
    assert (pair.frame_index, pair.start_seconds) == (17, None)
    with pytest.raises(BadMedium, match="one size"):
        medium(images, "frame_pair", a=png(4), b=png(5, (9, 6)))


def test_an_array_is_lists_of_numbers(images: Store) -> None:
    for value in ([[1, 2.5], [3, 4], [5, 6]], np.array([[1, 2.5], [3, 4], [5, 6]], np.float16)):
        array = medium(images, "array", inputs=value)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, [[1, 2.5], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1.0, 2.0], r"an array of shape \[2\]; it must be \[M, C\]"),
        ([[[1.0]]], r"an array of shape \[1, 1, 1\]"),
        ([[1.0], [2.0, 3.0]], "lists of different lengths"),
        ([[1.0, None]], "values that are not numbers"),
        ([["1.0"]], "values that are not numbers"),
        ([[], []], r"an array of shape \[2, 0\]"),
        (None, "must hold an array, got null"),
        ("[[1.0]]", "must hold an array, got str"),
    ],
)
def test_invalid_arrays_are_refused_with_the_reason(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(BadMedium, match=words):
        medium(Store(str(tmp_path)), "array", inputs=value)


@pytest.mark.parametrize("value", [None, "", b"", " \t", b"\n"])
def test_blank_texts_are_treated_alike_by_the_rule_of_the_option(tmp_path: Path, value: Any) -> None:
    store = Store(str(tmp_path))
    assert medium(store, "text", text=value) == ("" if value is None else value)
    request = RecordRequest(options=SourceOptions(blank_text="quarantine"), medium_columns=("text",))
    with pytest.raises(BadMedium, match="the text is blank: null, empty, or white space"):
        medium_of({"text": value}, 0, request, store, "t", unit())
    assert medium_of({"text": " a"}, 0, request, store, "t", unit()) == " a"


def test_values_of_another_kind_are_refused_with_the_column(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(BadMedium, match="column 'text' must hold text, got int"):
        medium(store, "text", text=3)
    with pytest.raises(BadMedium, match="column 'image' must hold an image, got int"):
        medium(store, "image", image=3)
    with pytest.raises(BadMedium, match="column 'text' not found; the record has a, b"):
        medium_of({"a": 1, "b": 2}, 0, RecordRequest(), store, "t", unit())


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet", "dataset", "webdataset"])
def test_pairs_need_two_columns_of_images_or_one_of_videos(name: str) -> None:
    for column in ("a,", "a,b,c"):
        with pytest.raises(ValueError, match="must name one column of videos, or the two columns of a pair of images"):
            SOURCES[name].configured(SourceOptions(medium="frame_pair", column=column))
    with pytest.raises(ValueError, match=r"fps \(2\) is not supported"):
        SOURCES[name].configured(SourceOptions(medium="frame_pair", column="a,b", fps=2.0))
    SOURCES[name].configured(SourceOptions(medium="frame_pair", column="a", fps=2.0))

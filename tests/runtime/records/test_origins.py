"""Where units come from, by their ids and URIs: of every kind of INPUT, and of OUTPUTs of earlier versions."""

from __future__ import annotations

import pytest

from pipeline.runtime.records.origins import Origins, is_whole_file
from pipeline.sinks.parts import Quarantined

KEYS = {"a.jpg", "cats/a.jpg", "t.csv", "sub/t.csv", "set.tar", "t#1.csv"}


@pytest.mark.parametrize(
    ("unit_id", "uri", "key"),
    [
        ("a.jpg", "/in/a.jpg", "a.jpg"),
        ("cats/a.jpg", "/in/cats/a.jpg", "cats/a.jpg"),
        ("set.tar#cats/a#2", "/in/set.tar", "set.tar"),
        ("sub/t.csv#17", "/in/sub/img/1.jpg", "sub/t.csv"),
        ("sub/t.csv#17", "/in/sub/t.csv", "sub/t.csv"),  # as an earlier version wrote it
        ("t.csv#17", "/in/a.jpg", "t.csv"),  # which INPUT holds as well
        ("t.csv#17", "https://host/a.jpg", "t.csv"),
        ("t#1.csv#0", "/in/t#1.csv", "t#1.csv"),
    ],
)
def test_an_id_begins_with_the_key_of_its_file(unit_id: str, uri: str, key: str) -> None:
    assert Origins(input="/in").planned_key(unit_id, uri, KEYS) == key


@pytest.mark.parametrize(
    ("unit_id", "uri", "key"),
    [
        ("17", "/in/sub/t.csv", "sub/t.csv"),
        ("sub/t.csv#4", "/in/t.csv", "t.csv"),  # the id of an earlier run in a column
        ("t.csv#4", "/in/t.csv", "t.csv"),  # a row without an id
        ("t.csv#4", "/in/img/1.jpg", None),
        ("17", "/photos/a.jpg", None),  # of stored latents
    ],
)
def test_an_id_of_a_column_says_nothing_of_its_file(unit_id: str, uri: str, key: str | None) -> None:
    assert Origins(input="/in", named=True).planned_key(unit_id, uri, KEYS) == key


def test_the_uri_decides_between_two_files_whose_keys_begin_an_id() -> None:
    keys = {"a", "a#1"}
    assert Origins(input="/in").planned_key("a#1", "/in/a", keys) == "a"
    assert Origins(input="/in").planned_key("a#1", "/in/a#1", keys) == "a#1"


def test_a_unit_whose_reading_failed_has_the_key_of_its_file() -> None:
    unit = Quarantined(id="17", uri="/in/img/1.jpg", stage="load", error="", message="", attempts=1, key="sub/t.csv")
    assert Origins(input="/in", named=True).key_of(unit, KEYS) == "sub/t.csv"
    assert Origins(input="/in", named=True).key_of(unit, {"t.csv"}) is None


@pytest.mark.parametrize(
    ("given", "uri", "place"),
    [
        ("/in", "/in/cats/a.jpg", ("/in", "cats/a.jpg")),
        ("/in/cats/t.csv", "/in/cats/t.csv", ("/in/cats", "t.csv")),
        ("/in/cats/t.csv", "/in/cats/img/a.jpg", ("/in/cats", "img/a.jpg")),
        ("/in/*/t.csv", "/in/cats/img/a.jpg", ("/in", "cats/img/a.jpg")),
        ("/in/[x]/*.csv", "/in/[x]/img/a.jpg", ("/in/[x]", "img/a.jpg")),
        ("/in/in", "/in/in/in/a.jpg", ("/in/in", "in/a.jpg")),
        ("/", "/a.jpg", ("/", "a.jpg")),
        ("s3://bucket", "s3://bucket//a//b.jpg", ("s3://bucket", "/a//b.jpg")),
        ("s3://bucket/in", "s3://bucket/in/a.jpg", ("s3://bucket/in", "a.jpg")),
    ],
)
def test_the_folder_of_keys_is_found_from_input_and_a_uri(given: str, uri: str, place: tuple[str, str]) -> None:
    assert Origins(input=given).place(uri) == place


@pytest.mark.parametrize(
    ("unit_id", "uri", "whole"),
    [
        ("cats/a#1.jpg", "/in/cats/a#1.jpg", True),
        ("set.tar#3", "/in/set.tar", False),
        ("t.csv#3", "/in/t.csv", False),
        ("t.csv#3", "/in/img/3.jpg", None),
        ("3", "/in/t.parquet", None),
    ],
)
def test_whether_a_unit_is_a_whole_file(unit_id: str, uri: str, whole: bool | None) -> None:
    assert is_whole_file(unit_id, uri) is whole

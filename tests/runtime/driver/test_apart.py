"""INPUT and OUTPUT are apart, by whatever spelling."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from pipeline.runtime.driver.apart import check_apart
from pipeline.runtime.errors import UsageError
from pipeline.runtime.plan.plan_files import read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sources import discover, source_for
from pipeline.storage import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/predictions").mkdir(parents=True)
    (tmp_path / "in/a.jsonl").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    return tmp_path


@pytest.mark.parametrize("name", ["in/predictions", "link/predictions/*.parquet", "in/predictions/part-0.parquet"])
def test_predictions_of_output_are_refused_as_input(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"INPUT .* lies in .*/predictions, which this run writes to"):
        check_apart(f"{folder}/{name}", Store(f"{folder}/in"))


@pytest.mark.parametrize(
    ("one", "other"), [("in", "in/out"), ("in/a.jsonl", "in"), ("in/*.jsonl", "in"), ("in/b", "in"), ("in", "out")]
)
def test_output_below_above_and_elsewhere_is_accepted(folder: Path, one: str, other: str) -> None:
    check_apart(f"{folder}/{one}", Store(f"{folder}/{other}"))


def test_one_bucket_by_two_spellings_is_refused(s3) -> None:
    uri = s3.bucket("apart")
    for one, other in (
        (f"{uri}/in", f"{uri}/in/"),
        (f"{uri}/in", f"{uri}/in".replace("s3:", "S3a:")),
        (uri, f"{uri}/"),
    ):
        with pytest.raises(UsageError, match="are the same folder"):
            check_apart(one, Store(other))
    check_apart(f"{uri}/in", Store(f"{uri}/in/out"))
    check_apart(f"{uri}/in", Store(uri))


def test_two_names_for_the_output_of_one_run_are_refused(folder: Path) -> None:
    for name in ("in", "copy"):  # as a mounted bucket and its URI are
        Store(f"{folder}/{name}").put(RUN_FILE, b'{"run": "aaaa0000", "input": "", "fingerprint": {}}')
    with pytest.raises(UsageError, match="are the same folder"):
        check_apart(f"{folder}/in", Store(f"{folder}/copy"))


LOCAL = (
    "{}/in",
    "in",
    "./in/",
    "in/../in",
    "{}/in/",
    "link",
    "link/../in",
    "{}/link/",
    "file://{}/in",
    "local://{}/link/",
)
BUCKET = ("s3://{}/in", "s3://{}/in/", "S3://{}/in", "s3a://{}/in//", "s3a://{}/in")


@pytest.fixture(params=[LOCAL, pytest.param(BUCKET, marks=pytest.mark.slow)], ids=["local", "s3"])
def spellings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All spellings of one folder, which holds two texts."""
    monkeypatch.chdir(tmp_path)
    if request.param is LOCAL:
        place = str(tmp_path)
        (tmp_path / "in").mkdir()
        (tmp_path / "link").symlink_to("in")
    else:
        place = request.getfixturevalue("s3").bucket("apart").removeprefix("s3://")
    found = [spelling.format(place) for spelling in request.param]
    for name in ("a.txt", "sub/b.txt"):
        Store(found[0]).put(name, b"a text\n")
    return found


def plan_two_nights(uri: str, output: Store) -> list[list[str]]:
    """Plan INPUT as two runs do, the first of which leaves predictions; return the keys of each segment."""
    source = source_for("text")
    for _ in range(2):
        check_apart(uri, output)
        plan = freeze_plan(output, source, lambda: discover(uri, source, output), ShardSizing(unit_bytes=1000))
        output.put(RUN_FILE, b'{"run": "aaaa0000", "input": "", "fingerprint": {}}')
        for name in ("predictions/part-0.txt", "quarantine/part-0.txt"):
            output.put(name, b"a prediction\n")
    tables = [[read_plan_file(output, file.name, file.sha256) for file in segment.files] for segment in plan.segments]
    return [
        [piece["key"] for table in segment for row in table.to_pylist() for piece in row["pieces"]]
        for segment in tables
    ]


def with_others(spellings: list[str]) -> list[tuple[str, str]]:
    """Return pairs in which each spelling is INPUT once and OUTPUT once."""
    return list(zip(spellings, [*spellings[1:], spellings[0]], strict=True))


def test_output_that_is_input_is_refused_by_every_spelling(spellings: list[str]) -> None:
    for uri, output in product(spellings, spellings):
        with pytest.raises(UsageError, match="are the same folder"):
            plan_two_nights(uri, Store(output))


def test_output_below_input_is_not_read_in_the_second_night_by_any_spelling(spellings: list[str]) -> None:
    for number, (uri, output) in enumerate(with_others(spellings)):
        below = Store(f"{output.rstrip('/')}/sub/out {number}")
        assert plan_two_nights(uri, below) == [["a.txt", "sub/b.txt"]]


def test_output_above_input_is_not_read_in_the_second_night_by_any_spelling(spellings: list[str]) -> None:
    for uri, output in with_others(spellings):
        above = Store(output)
        for key in above.keys("_run/"):
            above.delete(key)
        assert plan_two_nights(f"{uri.rstrip('/')}/sub/", above) == [["b.txt"]]


@pytest.mark.parametrize("pattern", ["**", "*/*.txt", "**/b.txt"])
def test_pattern_does_not_match_the_predictions_of_an_output_above_it(spellings: list[str], pattern: str) -> None:
    for uri in spellings[:3]:
        output = Store(spellings[0])
        for key in output.keys("_run/"):
            output.delete(key)
        keys = ["a.txt", "sub/b.txt"] if pattern == "**" else ["sub/b.txt"]
        assert plan_two_nights(f"{uri.rstrip('/')}/{pattern}", output) == [keys]


def test_bucket_with_and_without_a_slash_is_one_folder(s3) -> None:
    uri = s3.bucket("apart")
    Store(uri).put("a.txt", b"a text\n")
    for number, (one, other) in enumerate([(uri, f"{uri}/"), (f"{uri}/", uri.replace("s3:", "s3a:"))]):
        with pytest.raises(UsageError, match="are the same folder"):
            plan_two_nights(one, Store(other))
        assert plan_two_nights(one, Store(f"{other.rstrip('/')}/{number}")) == [["a.txt"]]

"""INPUT and OUTPUT are apart, by whatever spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runtime import UsageError
from pipeline.runtime.driver.apart import check_apart
from pipeline.sinks.ownership import RUN_FILE
from pipeline.storage import Store

SAME = [("in", "in"), ("in", "link"), ("link", "in"), ("in/../in/", "in"), ("new", "new/"), ("in", "file://{}/in")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/predictions").mkdir(parents=True)
    (tmp_path / "in/a.jsonl").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    return tmp_path


@pytest.mark.parametrize(("one", "other"), SAME)
def test_output_that_is_input_is_refused(folder: Path, one: str, other: str) -> None:
    output = other.format(folder) if "://" in other else f"{folder}/{other}"
    with pytest.raises(UsageError, match=r"INPUT .* and OUTPUT .* are the same folder.*: give another OUTPUT"):
        check_apart(f"{folder}/{one}", Store(output))


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

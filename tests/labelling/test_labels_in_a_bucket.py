"""Files of labels in S3: every verb that takes one reads it there, and names one that it cannot read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.results import open_run
from pipeline.storage import AccessError
from tests import example_runs
from tests.conftest import RecordingProxy
from tests.labelling.test_probe import images, labelled
from tests.report.parsed_page import read_page

VERBS = ("run", "report", "export", "probe")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """OUTPUT with embeddings of eight images."""
    folder = tmp_path_factory.mktemp("features")
    example_runs.run("feature-extraction", images(folder), folder / "features", checkpoint)
    return folder / "features"


@pytest.fixture
def perceiver(
    features: Path, tmp_path: Path, image_run: Path, checkpoint: Path, described_cluster: None
) -> Callable[..., str]:
    """`perceiver(verb, labels, code=0)`: give the verb a file of labels, and return what it prints."""
    arguments = {
        "run": ["image-classification", features.parent / "in", tmp_path / "out", "--checkpoint", checkpoint],
        "report": [image_run, "--to", tmp_path / "report.html"],
        "export": [features, tmp_path / "wrong.csv", "--to", "mistakes"],
        "probe": [features, tmp_path / "probe"],
    }

    def run(verb: str, labels: str, code: int = 0) -> str:
        result = CliRunner().invoke(
            app, [verb, *map(str, arguments[verb]), "--labels", labels], env={"COLUMNS": "1000"}
        )
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_every_verb_reads_labels_in_a_bucket(
    s3: Any, perceiver: Callable[..., str], features: Path, image_run: Path, tmp_path: Path
) -> None:
    bucket, key = s3.bucket("labels"), "some folder/labels #1.csv"
    name = bucket.removeprefix("s3://")
    s3.client.put_object(Bucket=name, Key=key, Body=labelled(open_run(features), tmp_path).read_bytes())
    s3.client.put_object(Bucket=name, Key="labels.csv", Body=b"id,label\ne.png,LABEL_1\ndogs/c.jpg,LABEL_0\n")
    perceiver("run", f"{bucket}/{key}")
    known = [row["known_label"] for row in open_run(tmp_path / "out").rows(["known_label"])]
    assert sorted(known) == ["even"] * 4 + ["odd"] * 4
    perceiver("report", f"{bucket}/labels.csv")
    assert "labelled units 2" in read_page((tmp_path / "report.html").read_text()).text
    assert "8 rows" in perceiver("export", f"{bucket}/{key}")
    assert "of 8 held-out units" in perceiver("probe", f"{bucket}/{key}")
    assert open_run(image_run).metrics(f"{bucket}/labels.csv").units == 2


@pytest.mark.parametrize("verb", VERBS)
def test_file_that_cannot_be_read_is_named_before_any_work(
    s3: Any, perceiver: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    bucket = s3.bucket("labels")
    for uri, reason in {
        f"{bucket}/missing.csv": f"{bucket}/missing.csv: the file with labels does not exist",
        "s3://no-such-bucket/labels.csv": "s3://no-such-bucket/labels.csv: The specified bucket does not exist",
        "s3://labels.csv": "s3://labels.csv is a bucket: name a file with labels in it",
        f"{bucket}/labels": "a file with labels must be one of .csv, .tsv, .jsonl, .parquet, .json",
        f"{bucket}/labels.csv?versionId=3": "a URI must not contain a user, password or query string",
    }.items():
        assert reason in perceiver(verb, uri, code=2)
    s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key="labels.csv", Body=b"name,label\nx,y\n")
    assert f"{bucket}/labels.csv: the file with labels needs one column 'id'" in perceiver(
        verb, f"{bucket}/labels.csv", code=2
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    assert "Unable to locate credentials" in perceiver(verb, f"{bucket}/labels.csv", code=2)
    assert not {"out", "report.html", "wrong.csv", "probe"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_credentials_are_named(
    s3: Any, s3_proxy: RecordingProxy, perceiver: Callable[..., str], verb: str
) -> None:
    uri = f"{s3.bucket('labels')}/labels.csv"
    s3_proxy.statuses = [(403, "InvalidAccessKeyId")] * 2
    printed = perceiver(verb, uri, code=2)
    assert f"no access when reading {uri}" in printed
    assert "InvalidAccessKeyId" in printed


def test_python_names_a_file_that_cannot_be_read(s3: Any, image_run: Path) -> None:
    with pytest.raises(AccessError, match=r"missing\.csv: the file with labels does not exist"):
        open_run(image_run).metrics(f"{s3.bucket('labels')}/missing.csv")

"""Known labels of units travel to the output as `known_label`: of a column, of the file's folder, or of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.storage import AccessError
from tests import example_runs

IMAGES = ("cats/a.png", "cats/deep/b.png", "dogs/c.png", "d.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images."""
    for number, name in enumerate(IMAGES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * number, 90, 30)).save(path)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text classification checkpoint."""
    return make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path_factory.mktemp("checkpoint"))


def known(output: Path | str) -> dict[str, str | None]:
    """Return the known labels in the rows."""
    schema = open_run(output).schema()
    assert schema.field(KNOWN_LABEL).type == pa.string()
    return {row["id"]: row[KNOWN_LABEL] for row in open_run(output).rows(["id", KNOWN_LABEL])}


def classify(images: Path, checkpoint: Path, **options: Any) -> Path:
    output = images.parent / "out"
    example_runs.run("image-classification", images, output, checkpoint, **options)
    return output


def test_label_is_the_folder_of_the_file(images: Path, checkpoint: Path) -> None:
    expected = {"cats/a.png": "cats", "cats/deep/b.png": "deep", "dogs/c.png": "dogs", "d.png": None}
    assert known(classify(images, checkpoint, label_from="folder")) == expected


def test_labels_of_a_file_reach_every_unit_and_new_ones_count_for_new_units(images: Path, checkpoint: Path) -> None:
    labels = images.parent / "labels.csv"
    labels.write_text("id,label\ncats/a.png,cat\nd.png,7\nelsewhere.png,x\n")
    output = classify(images, checkpoint, labels=str(labels), shard_size=2)
    expected = {"cats/a.png": "cat", "cats/deep/b.png": None, "dogs/c.png": None, "d.png": "7"}
    assert known(output) == expected
    labels.write_text("id,label\ndogs/c.png,dog\ne.png,new\n")
    Image.new("RGB", (40, 40)).save(images / "e.png")
    classify(images, checkpoint, labels=str(labels))
    assert known(output) == expected | {"e.png": "new"}


@pytest.mark.parametrize("name", ["kind", "label"])
def test_label_is_a_column_of_a_metadata_file(images: Path, checkpoint: Path, name: str) -> None:
    (images / "metadata.csv").write_text(f"file_name,{name}\ncats/a.png,cat\ndogs/c.png,\n")
    output = classify(images, checkpoint, label_column=name)
    assert known(output) == {"cats/a.png": "cat", "cats/deep/b.png": None, "dogs/c.png": None, "d.png": None}
    assert f"input_{name}" not in open_run(output).schema().names
    assert open_run(output).schema().names.count(name) == (name == "label")  # the head's


@pytest.mark.parametrize("keep", [(), ("stars",)])
def test_label_column_of_a_table_becomes_text_and_is_kept_as_it_is_if_asked(
    tmp_path: Path, texts: Path, keep: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "stars": [3, None, 5]}), tmp_path / "in/a.parquet")
    output = tmp_path / "out"
    example_runs.run("text-classification", tmp_path / "in", output, texts, label_column="stars", keep_columns=keep)
    assert known(output) == {"a.parquet#0": "3", "a.parquet#1": None, "a.parquet#2": "5"}
    assert ("stars" in open_run(output).schema().names) == bool(keep)


def test_labels_of_a_file_name_lines_and_rows(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("one\ntwo\n")
    (tmp_path / "labels.jsonl").write_text('{"id": "a.txt#4", "label": "second"}\n')
    example_runs.run(
        "text-classification", tmp_path / "in", tmp_path / "out", texts, labels=str(tmp_path / "labels.jsonl")
    )
    assert known(tmp_path / "out") == {"a.txt#0": None, "a.txt#4": "second"}


def test_another_kind_of_labels_in_the_same_output_is_refused(images: Path, checkpoint: Path) -> None:
    classify(images, checkpoint, label_from="folder")
    with pytest.raises(UsageError, match='known_label was "folder", this run has null'):
        classify(images, checkpoint)


def test_what_cannot_be_is_refused(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label_from \(folder\) and labels \(x\.csv\) cannot be combined"):
        RunOptions(task="x", input="y", output="z", checkpoint="c", label_from="folder", labels="x.csv")
    with pytest.raises(AccessError, match=r"missing\.csv: the file with labels does not exist"):
        classify(images, checkpoint, labels=str(tmp_path / "missing.csv"))
    (images / "metadata.csv").write_text("file_name,known_label\ncats/a.png,cat\n")
    with pytest.raises(UsageError, match="column 'known_label' would be in the output twice"):
        classify(images, checkpoint, keep_columns=("known_label",), label_from="folder")
    assert not (tmp_path / "out").exists()


def test_run_counts_rows_of_the_file_without_a_label(images: Path, checkpoint: Path, described_cluster: None) -> None:
    labels = images.parent / "labels.csv"
    labels.write_text("id,label\ncats/a.png,cat\nd.png,\n,dog\n")
    places = [str(images), str(images.parent / "out"), "--checkpoint", str(checkpoint), "--labels", str(labels)]
    result = CliRunner().invoke(app, ["run", "image-classification", *places], env={"COLUMNS": "1000"})
    assert result.exit_code == 0, result.output
    assert f"{labels}: 2 unlabelled rows, without a label or an id" in result.output

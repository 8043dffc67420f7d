"""Metrics of labels: figures by hand, labels that the model does not have, ids that the run does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.labelling.labelled_rows import LabelledRows, read_labelled_rows
from pipeline.labelling.metrics import Confusion, metrics_of
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from pipeline.sources.label_files import LabelFile, read_label_file
from tests import example_runs

NAMES = ("cat", "dog", "tabby cat")


def batch(*rows: tuple[str, int, float, str | None]) -> pa.RecordBatch:
    """Return rows of (id, label_id, score, known_label)."""
    ids, numbers, scores, known = zip(*rows, strict=True)
    return pa.record_batch(
        {
            "id": pa.array(ids),
            "label_id": pa.array(numbers, pa.int32()),
            "label": pa.array([NAMES[number] for number in numbers]),
            "score": pa.array(scores, pa.float32()),
            "known_label": pa.array(known, pa.string()),
        }
    )


def labelled(tmp_path: Path, text: str) -> LabelFile:
    (tmp_path / "labels.csv").write_text(f"id,label\n{text}")
    return read_label_file(str(tmp_path / "labels.csv"))


ROWS = [("a", 0, 0.95, "cat"), ("b", 0, 0.55, "dog"), ("c", 1, 0.85, "dog"), ("d", 1, 0.75, "dog"), ("e", 0, 0.5, None)]


def test_metrics_are_those_computed_by_hand() -> None:
    found = metrics_of(read_labelled_rows([batch(*ROWS)], NAMES))
    assert (found.units, found.unlabelled, found.accuracy) == (4, 1, 0.75)
    assert found.accuracy_interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson's, of 3 of 4
    assert found.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2)
    cat, dog = found.classes
    assert (cat.label, cat.support, cat.predicted, cat.precision, cat.recall) == ("cat", 1, 2, 0.5, 1)
    assert (dog.label, dog.support, dog.predicted, dog.precision) == ("dog", 3, 2, 1)
    assert (dog.recall, dog.f1) == (pytest.approx(2 / 3), pytest.approx(0.8))
    assert found.confusions == [Confusion(known="dog", predicted="cat", units=1)]
    assert [(each.low, each.units, each.accuracy) for each in found.reliability] == [
        (8 / 15, 1, 0),
        (11 / 15, 1, 1),
        (12 / 15, 1, 1),
        (14 / 15, 1, 1),
    ]
    assert found.calibration_error == pytest.approx((0.55 + 0.25 + 0.15 + 0.05) / 4, abs=1e-6)
    assert found.notes == ()
    assert found.describe()[0].startswith("accuracy 75.0 % of 4 labelled units (95 % interval 30.1 % to 95.4 %)")


def test_file_counts_instead_of_the_column_and_says_what_it_does_not_match(tmp_path: Path) -> None:
    extra = "".join(f"x{number:02d},cat\n" for number in range(12))
    rows = read_labelled_rows([batch(*ROWS)], NAMES, labelled(tmp_path, f"a,dog\ne,cat\n{extra}"))
    assert (rows.table["id"].to_pylist(), rows.known.tolist(), rows.unlabelled) == (["a", "e"], [1, 0], 3)
    (note,) = rows.notes
    assert note.endswith("12 of 14 ids are without a row: 'x00', 'x01', 'x02', 'x03', 'x04', 'x05', 'x06', 'x07', "
                         "'x08', 'x09' and 2 more")  # fmt: skip


def test_labels_that_the_model_does_not_have_are_left_out_and_named_with_similar_ones() -> None:
    rows = read_labelled_rows([batch(*ROWS, ("f", 0, 0.5, "Dogs"), ("g", 0, 0.5, "Dogs"))], NAMES)
    assert (len(rows.known), rows.foreign, rows.unlabelled) == (4, {"Dogs": 2}, 1)
    assert rows.notes == ["left out: 2 units with labels that the checkpoint does not have: 'Dogs' (did you mean dog?)"]


def test_numbers_are_taken_for_ids_of_labels_if_no_label_is_a_number() -> None:
    rows = read_labelled_rows([batch(("a", 0, 0.5, "1"), ("b", 0, 0.5, "0"))], NAMES)
    assert rows.known.tolist() == [1, 0]
    assert rows.notes == ["the known labels are numbers: they are taken for ids of the checkpoint's labels"]
    assert read_labelled_rows([batch(("a", 0, 0.5, "1"))], ["1", "0", "2"]).known.tolist() == [0]


def test_unit_that_was_predicted_again_counts_once_with_its_last_row() -> None:
    rows = read_labelled_rows([batch(("a", 0, 0.5, "cat"), ("b", 0, 0.5, "cat")), batch(("a", 1, 0.9, "dog"))], NAMES)
    assert (rows.table["id"].to_pylist(), rows.known.tolist(), rows.predicted.tolist()) == (["b", "a"], [0, 1], [0, 1])


def test_names_of_a_run_of_an_earlier_version_are_those_of_its_rows() -> None:
    assert read_labelled_rows([batch(*ROWS)], ()).names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("rows", "names", "reason"),
    [
        ([("a", 0, 0.5, None)], NAMES, "no label is known: column known_label is empty"),
        (
            [("a", 0, 0.5, "Dogg")],
            NAMES,
            r"none of the known labels is one of the checkpoint: 'Dogg' \(did you mean dog",
        ),
        ([("a", 0, 0.5, "7")], NAMES, "none of the known labels is one of the checkpoint: '7'"),
        ([("a", 0, -3.0, "cat")], NAMES, "predicts one number, not one of several labels"),
        ([("a", 0, 0.5, "cat")], NAMES[:1], "predicts one number, not one of several labels"),
    ],
)
def test_metrics_that_do_not_exist_are_refused(rows: list, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        metrics_of(read_labelled_rows([batch(*rows)], names))


def test_files_that_match_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of its 2 ids has a row, for example 'y'; ids .* look like 'a'"):
        read_labelled_rows([batch(*ROWS)], NAMES, labelled(tmp_path, "z,cat\ny,cat\n"))
    with pytest.raises(UsageError, match=r"labels\.csv labels no unit of the run"):
        read_labelled_rows([batch(*ROWS)], NAMES, labelled(tmp_path, "a,\n"))


def test_a_hundred_thousand_labels_are_counted() -> None:
    chance, labels = np.random.default_rng(0), 100_000
    known = chance.permutation(labels)
    predicted = np.where(np.arange(labels) % 2, known, (known + 1) % labels)
    table = pa.table({"label_id": predicted.astype(np.int32), "score": np.full(labels, 0.5, np.float32)})
    rows = LabelledRows(names=[f"label {number}" for number in range(labels)], table=table, known=known)
    found = metrics_of(rows)
    assert (found.accuracy, found.balanced_accuracy, found.calibration_error) == (0.5, 0.5, 0)
    assert (len(found.classes), len(found.confusions)) == (labels, labels // 2)


def test_metrics_of_a_run(tmp_path: Path, checkpoint: Path) -> None:
    output = example_runs.image_run(tmp_path, checkpoint)
    run = open_run(output)
    with pytest.raises(UsageError, match="no labels are known: name a file with the columns id and label, or run with"):
        run.metrics()
    rows = list(run.rows(["id", "label", "score"]))
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f'"{row["id"]}",{row["label"]}\n' for row in rows))
    found = run.metrics(tmp_path / "labels.csv")
    assert (found.units, found.accuracy, found.unlabelled) == (len(rows), 1, 0)
    assert run.run.label_names[0] == "LABEL_0"

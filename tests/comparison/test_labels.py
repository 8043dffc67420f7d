"""Two runs of labels compared: figures by hand, the table, known labels, units of one run, other label sets."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from pipeline import compare, open_run
from pipeline.comparison.agreement import cohens_kappa, mcnemar_exact
from pipeline.comparison.label_changes import LabelChange
from pipeline.labelling.metrics import wilson_interval
from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.errors import UsageError
from tests import example_runs
from tests.comparison.another_run import another_run
from tests.example_runs import IMAGES

OTHER = ("cats/b.png", "e.png")  # units that have another label in the second run


def with_other_labels(row: dict[str, Any]) -> dict[str, Any]:
    """Give some units another label, and one another score."""
    if row["id"] in OTHER:
        number = (row["label_id"] + 1) % 5
        return row | {"label_id": number, "label": f"LABEL_{number}", "score": 0.9}
    return row | ({"score": row["score"] + 0.125} if row["id"] == "cats/Ä.png" else {})


@pytest.fixture(scope="module")
def other_run(image_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another_run(image_run, tmp_path_factory.mktemp("other") / "out", with_other_labels)


def test_a_run_is_told_apart_from_one_with_other_labels(image_run: Path, other_run: Path) -> None:
    found = compare(image_run, other_run)
    assert (found.units.both, found.units.only_a, found.units.only_b) == (len(IMAGES), 0, 0)
    assert found.labels is not None
    assert (found.labels.units, found.labels.same) == (8, 6)
    assert found.labels.agreement == 0.75
    assert found.labels.interval == pytest.approx((0.4093, 0.9285), abs=1e-4)  # Wilson's, of 6 of 8
    first, second = (pq.read_table(run / "predictions")["label"].to_pylist() for run in (image_run, other_run))
    assert found.labels.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert sum(each.units for each in found.labels.changes) == 2
    assert found.labels.score_most == pytest.approx(0.125)
    assert found.labels.score_mean == pytest.approx(0.125 / 6)
    assert "labels agree for 6 of 8 units: 75.0 %" in "\n".join(found.describe())


def test_table_has_the_units_that_differ_and_the_most_different_first(image_run: Path, other_run: Path) -> None:
    table = compare(image_run, other_run).differences
    assert sorted(table["id"].to_pylist()[:2]) == sorted(OTHER)
    assert table["id"].to_pylist()[2:] == ["cats/Ä.png"]
    assert table["changed"].to_pylist() == [["label"], ["label"], ["score"]]
    assert table["score_difference"].to_pylist() == [None, None, pytest.approx(0.125)]
    assert table["score_b"].to_pylist()[:2] == [pytest.approx(0.9)] * 2


def test_counts_are_those_of_duckdb(image_run: Path, other_run: Path) -> None:
    found = compare(image_run, other_run)
    assert found.labels is not None
    joined = f"'{image_run}/predictions/*.parquet' a join '{other_run}/predictions/*.parquet' b using (id)"
    changes = duckdb.sql(f"select a.label, b.label, count(*) from {joined} where a.label <> b.label group by all")
    assert {(each.a, each.b, each.units) for each in found.labels.changes} == set(changes.fetchall())


def test_a_run_equals_itself_in_another_place(image_run: Path, tmp_path: Path) -> None:
    found = compare(image_run, shutil.copytree(image_run, tmp_path / "copy"))
    assert found.labels is not None
    assert found.labels.agreement == 1.0
    assert (found.differences.num_rows, list(found.settings)) == (0, [])
    assert found.notes == [
        f"A and B have the same name, {open_run(image_run).run.run}: one is a copy of the other, or of a part of it"
    ]


def test_units_of_one_run_are_counted_and_in_the_table(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(image_run.parent / "in", tmp_path / "in")
    (tmp_path / "in/e.png").unlink()
    (tmp_path / "in/cats/b.png").write_bytes(b"damaged")
    (tmp_path / "in/new.png").write_bytes((tmp_path / "in/dogs/d.png").read_bytes())
    example_runs.run("image-classification", tmp_path / "in", tmp_path / "out", checkpoint, max_quarantine=0.5)
    found = compare(image_run, tmp_path / "out")
    assert (found.units.both, found.units.only_a, found.units.only_b) == (6, 2, 1)
    assert (found.units.quarantined_in_b, found.units.quarantined_in_a) == (1, 0)
    assert found.units.other_uri == 6
    runs = dict(zip(found.differences["id"].to_pylist(), found.differences["runs"].to_pylist(), strict=True))
    assert runs == {"cats/b.png": "A", "e.png": "A", "new.png": "B"}
    lines = found.describe()
    assert "2 units only in A, 1 of them quarantined in B" in lines
    assert {each.name for each in found.settings} >= {"INPUT", "top_k", "latents"}


def test_files_that_changed_between_the_runs_are_counted(image_run: Path, tmp_path: Path) -> None:
    changed = another_run(
        image_run, tmp_path / "out", lambda row: row | ({"version": "another"} if row["id"] == "e.png" else {})
    )
    found = compare(image_run, changed)
    assert (found.units.other_version, found.units.other_uri) == (1, 0)
    assert "files changed between the runs: 1 unit of both" in "\n".join(found.describe())


def test_accuracy_of_both_runs_is_compared_where_labels_are_known(
    image_run: Path, other_run: Path, tmp_path: Path
) -> None:
    rows = list(open_run(image_run).rows(["id", "label"]))
    lines = [f'"{row["id"]}","{row["label"]}"\n' for row in rows if row["id"] != "birds/owl.png"]
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(lines))
    found = compare(image_run, other_run, labels=tmp_path / "labels.csv")
    known = found.known_labels
    assert known is not None
    assert (known.units, known.both_right, known.only_a_right, known.only_b_right, known.both_wrong) == (7, 5, 2, 0, 0)
    assert (known.accuracy_a, known.accuracy_b) == (1.0, pytest.approx(5 / 7))
    assert known.p_value == 0.5
    by_id = dict(zip(found.differences["id"].to_pylist(), found.differences["known_label"].to_pylist(), strict=True))
    assert by_id["e.png"] == next(row["label"] for row in rows if row["id"] == "e.png")


def test_known_labels_that_a_checkpoint_does_not_have_are_left_out(
    image_run: Path, other_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("id,label\ne.png,LABEL_0\ncats/b.png,[red]panda\n")
    found = compare(image_run, other_run, labels=tmp_path / "labels.csv")
    assert found.known_labels is not None
    assert found.known_labels.units == 1
    assert "left out: 1 unit with known labels that the checkpoint of A does not have: '[red]panda'" in found.notes
    (tmp_path / "labels.csv").write_text("id,label\ncats/b.png,[red]panda\nmissing.png,LABEL_0\n")
    found = compare(image_run, other_run, labels=tmp_path / "labels.csv")
    assert found.known_labels is None
    assert "no known label is one that both checkpoints have: accuracies are not compared" in found.notes
    assert any("1 of 2 ids is without a row: 'missing.png'" in note for note in found.notes)
    (tmp_path / "labels.csv").write_text("id,label\nmissing.png,LABEL_0\n")
    with pytest.raises(UsageError, match="none of its 1 id has a row"):
        compare(image_run, other_run, labels=tmp_path / "labels.csv")


def test_checkpoints_with_other_labels_are_compared_by_name(image_run: Path, tmp_path: Path) -> None:
    names = [f"LABEL_{number}" for number in range(4)] + ["another"]
    found = compare(image_run, another_run(image_run, tmp_path / "out", labels=names))
    assert found.labels is not None
    assert found.labels.agreement == 1.0
    (note,) = found.labels.notes
    assert "4 labels in common, 1 label only in A ('LABEL_4') and 1 label only in B ('another')" in note


@pytest.mark.parametrize("seed", range(3))
def test_statistics_are_those_of_scipy_and_scikit_learn(seed: int) -> None:
    chance = np.random.default_rng(seed)
    a, b = chance.integers(0, 4, (2, 200))
    assert cohens_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    right, units = int(chance.integers(0, 50)), 50
    interval = binomtest(right, units).proportion_ci(method="wilson")
    assert wilson_interval(right, units) == pytest.approx((interval.low, interval.high))
    fewer, more = sorted(chance.integers(0, 3000, 2).tolist())
    assert mcnemar_exact(fewer, more) == pytest.approx(binomtest(fewer, fewer + more).pvalue, rel=1e-6)


def test_statistics_at_their_limits() -> None:
    same = np.zeros(5, np.int64)
    assert cohens_kappa(same, same) is None
    assert (mcnemar_exact(0, 0), mcnemar_exact(7, 7)) == (1.0, 1.0)
    assert mcnemar_exact(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar_exact(400_000, 600_000) == 0.0
    assert not math.isnan(mcnemar_exact(499_000, 501_000))
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


def test_changes_are_counted_in_pairs(image_run: Path, other_run: Path) -> None:
    found = compare(image_run, other_run).labels
    assert found is not None
    assert all(isinstance(each, LabelChange) and each.a != each.b for each in found.changes)
    assert [each.units for each in found.changes] == sorted((each.units for each in found.changes), reverse=True)


def test_runs_over_other_inputs_are_refused(image_run: Path, tmp_path: Path) -> None:
    renamed = another_run(image_run, tmp_path / "out", lambda row: row | {"id": f"other/{row['id']}"})
    with pytest.raises(UsageError, match=r"no unit in common.*'birds/owl\.png'.*'other/birds/owl\.png'"):
        compare(image_run, renamed)


def test_known_labels_of_both_runs_count_where_they_are_the_same(
    image_run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    source, options = image_run.parent / "in", {"label_from": "folder", "max_quarantine": 0.5}
    names = [f"LABEL_{number}" for number in range(2)] + ["cats", "dogs", "birds"]
    example_runs.run("image-classification", source, tmp_path / "one", checkpoint, **options)
    first = another_run(tmp_path / "one", tmp_path / "first", lambda row: row | {"label": "cats"}, labels=names)

    def other(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"label": "dogs"} | ({"known_label": "birds"} if row["id"] == "dogs/c.jpg" else {})

    found = compare(first, another_run(tmp_path / "one", tmp_path / "second", other, labels=names))
    assert "left out: 1 unit whose known labels differ between A and B" in found.notes
    known = found.known_labels
    assert known is not None
    assert (known.units, known.only_a_right, known.only_b_right, known.both_wrong) == (6, 4, 1, 1)
    of_a_only = compare(first, another_run(image_run, tmp_path / "third", labels=names)).known_labels
    assert of_a_only is not None
    assert (of_a_only.units, of_a_only.only_a_right, of_a_only.only_b_right) == (7, 4, 0)


def test_a_unit_that_was_predicted_again_counts_once_with_its_latest_row(image_run: Path, tmp_path: Path) -> None:
    def again(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"id": "birds/owl.png", "label": "another"} if row["id"] == "e.png" else {})

    found = compare(image_run, another_run(image_run, tmp_path / "out", again))
    assert (found.units.both, found.units.only_a, found.units.only_b) == (7, 1, 0)
    rows = {row["id"]: row for row in found.differences.to_pylist()}
    assert rows["birds/owl.png"]["label_b"] == "another"
    assert rows["e.png"]["runs"] == "A"


def test_numbers_of_a_regression_are_compared_by_their_distance(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("good\nbad\n")
    checkpoint = make_checkpoint(SEQUENCE, small(SEQUENCE, num_labels=1), tmp_path / "model")
    example_runs.run("text-classification", tmp_path / "lines.txt", tmp_path / "one", checkpoint)
    second = another_run(tmp_path / "one", tmp_path / "two", lambda row: row | {"score": row["score"] + 2})
    found = compare(open_run(tmp_path / "one"), open_run(second), tmp_path / "changes")
    assert found.describe()[1:] == ["predicted numbers of 2 units: distance 2 on average, 2 at most"]
    assert found.differences["changed"].to_pylist() == [["score"], ["score"]]


def test_a_comparison_that_is_refused_leaves_no_file(image_run: Path, tmp_path: Path) -> None:
    renamed = another_run(image_run, tmp_path / "out", lambda row: row | {"id": f"other/{row['id']}"})
    with pytest.raises(UsageError, match="no unit in common"):
        compare(image_run, renamed, tmp_path / "changes")
    assert [path for path in (tmp_path / "changes").rglob("*") if path.is_file()] == []
    found = compare(image_run, another_run(image_run, tmp_path / "second"), tmp_path / "changes")
    assert found.units.both == 8
    assert sorted(path.name for path in (tmp_path / "changes").iterdir()) == ["comparison.html", "differences.parquet"]

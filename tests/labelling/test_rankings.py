"""Probable mistakes, what to label next, and near duplicates: of made-up rows, of runs, and as exported files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.labelling import duplicates as similar
from pipeline.labelling.duplicates import duplicates_of, group_duplicates
from pipeline.labelling.label_queue import next_to_label, queue_of, uncertainty_of
from pipeline.labelling.labelled_rows import LabelledRows
from pipeline.labelling.mistakes import mistakes_of, mistakes_of_probe
from pipeline.labelling.notes import notes_of
from pipeline.labelling.probabilities import probabilities
from pipeline.labelling.probe import fit_probe
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from tests import example_runs
from tests.labelling.test_probe import clouds, images, labelled

LABELS = 5
LEAST_CERTAIN = "rows have no embeddings: the least certain units, similar ones among them"


def predictions(units: int, *, logits: bool, top_k: int = LABELS, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Return rows of a good model, and the true label of each."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, LABELS, units)
    values = chance.normal(size=(units, LABELS)).astype(np.float32)
    values[np.arange(units), truth] += 4
    scores = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    order = np.argsort(-values, axis=1)[:, :top_k]
    topk = [
        [{"label_id": number, "label": str(number), "score": scores[row, number]} for number in numbers.tolist()]
        for row, numbers in enumerate(order)
    ]
    kind = pa.list_(pa.struct([("label_id", pa.int32()), ("label", pa.string()), ("score", pa.float32())]))
    columns = {
        "id": pa.array([f"{number:03d}" for number in range(units)]),
        "uri": pa.array([f"in/{number:03d}" for number in range(units)]),
        "label_id": pa.array(order[:, 0], pa.int32()),
        "label": pa.array([str(number) for number in order[:, 0]]),
        "score": pa.array(scores[np.arange(units), order[:, 0]], pa.float32()),
        "topk": pa.array(topk, kind),
    }
    if logits:
        columns["logits"] = pa.array(values.tolist(), pa.list_(pa.float32()))
    return pa.table(columns), truth


@pytest.mark.parametrize("wanted", [[0, 1, 2, 3, 4], [1, 3]])
def test_probabilities_of_logits_and_of_all_best_labels_are_the_same(wanted: list[int]) -> None:
    with_logits, _ = predictions(50, logits=True)
    with_topk = with_logits.drop_columns("logits")
    one, other = (probabilities(rows, wanted, LABELS) for rows in (with_logits, with_topk))
    assert np.allclose(one, other, atol=1e-6)
    assert np.allclose(one.sum(axis=1), 1, atol=1e-6)


def test_labels_without_a_score_share_the_rest() -> None:
    rows, _ = predictions(1, logits=False, top_k=2)
    best = rows["topk"][0].as_py()
    rest = 1 - sum(each["score"] for each in best)
    found = probabilities(rows, list(range(LABELS)), LABELS)[0, :-1]
    assert sorted(found)[:3] == pytest.approx([rest / 3] * 3, abs=1e-6)
    assert found[best[0]["label_id"]] == best[0]["score"]


def test_probabilities_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labelling.probabilities.MAX_BYTES", 100)
    with pytest.raises(UsageError, match="the probabilities of 5 labels for 10 units take"):
        probabilities(predictions(10, logits=True)[0], list(range(LABELS)), LABELS)


@pytest.mark.parametrize("logits", [True, False])
def test_swapped_labels_come_first(logits: bool) -> None:
    rows, truth = predictions(600, logits=logits, top_k=3)
    swapped = np.random.default_rng(1).permutation(600)[:30]
    known = truth.copy()
    known[swapped] = (known[swapped] + 1) % LABELS
    labelled_rows = LabelledRows(names=[str(number) for number in range(LABELS)], table=rows, known=known)
    found = mistakes_of(labelled_rows)
    assert found["rank"].to_pylist() == list(range(1, 601))
    first = {int(name) for name in found["id"].to_pylist()[:60]}
    assert len(first & set(swapped.tolist())) >= 27
    row = found.to_pylist()[0]
    assert row["mistake"]
    assert row["known_label"] != row["label"]
    assert row["known_score"] < row["score"]
    assert [row["mistake"] for row in found.to_pylist()] == sorted(found["mistake"].to_pylist(), reverse=True)


def test_swapped_labels_come_first_by_probes_that_have_not_seen_them() -> None:
    features, truth = clouds(300, 3, 0.3)
    known = list(truth)
    for number in range(0, 300, 20):
        known[number] = truth[number + 1]
    fitted = fit_probe(features, known, pooling="mean", checkpoint="x", facts={})
    rows = pa.table({"id": [str(number) for number in range(300)], "uri": ["x"] * 300})
    found = mistakes_of_probe(rows, fitted)
    assert {int(name) % 20 for name in found["id"].to_pylist()[:15]} == {0}
    assert set(found["known_label"].to_pylist()) == set(known)


def test_mistakes_need_two_labels() -> None:
    rows, _ = predictions(10, logits=True)
    with pytest.raises(UsageError, match="all known labels are the same"):
        mistakes_of(LabelledRows(names=["a", "b", "c", "d", "e"], table=rows, known=np.zeros(10, np.int64)))


def test_units_that_resemble_each_other_are_one_group() -> None:
    features = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    features[[7, 30]] = features[3] * 1.001
    features[20] = features[19]
    groups = group_duplicates(features)
    assert len(set(groups.tolist())) == 37
    assert groups[3] == groups[7] == groups[30] != groups[19] == groups[20]
    rows = pa.table({"id": [str(number) for number in range(40)], "uri": ["x"] * 40})
    found = duplicates_of(rows, features).to_pylist()
    assert [(row["group"], row["id"]) for row in found] == [(1, "3"), (1, "7"), (1, "30"), (2, "19"), (2, "20")]
    assert all(row["similarity"] > 0.99 for row in found)
    assert duplicates_of(rows.slice(0, 3), features[:3]).num_rows == 0


@pytest.mark.parametrize("similarity", [0.9, 0.995, 1.0])
def test_groups_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, similarity: float) -> None:
    monkeypatch.setattr(similar, "BLOCK", 7)
    monkeypatch.setattr(similar, "COLUMNS", 11)
    chance = np.random.default_rng(0)
    features = chance.normal(size=(20, 8))[chance.integers(0, 20, 100)] + 0.05 * chance.normal(size=(100, 8))
    features[40:60:2] = features[41]
    features = features.astype(np.float32)
    vectors = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected, number = [-1] * 100, 0
    for unit in range(100):
        if expected[unit] < 0:
            for other in range(100):
                if expected[other] < 0 and vectors[unit] @ vectors[other] >= similarity - 1e-6:
                    expected[other] = number
            number += 1
    assert group_duplicates(features, similarity).tolist() == expected
    assert number < 100


def test_units_that_are_all_the_same_are_one_group() -> None:
    assert set(group_duplicates(np.full((600, 4), 0.1, np.float32)).tolist()) == {0}


def test_too_many_units_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "MAX_UNITS", 5)
    with pytest.raises(UsageError, match="among at most 5 units, not 6: select some with --where"):
        group_duplicates(np.ones((6, 2), np.float32))


def test_queue_has_the_least_certain_units_without_duplicates_and_spread() -> None:
    chance = np.random.default_rng(0)
    groups = [center + chance.normal(size=(50, 16)) for center in 8 * np.eye(4, 16)]
    features = np.concatenate(groups).astype(np.float32)
    features[1] = features[0]
    uncertainty = np.concatenate([np.full(50, level) for level in (0.9, 0.8, 0.7, 0.6)])
    uncertainty[:2] = 1.0
    assert next_to_label(uncertainty, None, 3).tolist() == [0, 1, 2]
    chosen = next_to_label(uncertainty, features, 8)
    assert len(chosen) == len(set(chosen.tolist())) == 8
    assert not {0, 1} <= set(chosen.tolist())
    assert len({number // 50 for number in chosen.tolist()}) >= 2  # of the 80 least certain, which are of two clouds
    assert uncertainty[chosen].tolist() == sorted(uncertainty[chosen], reverse=True)
    assert len(next_to_label(uncertainty[:5], features[:5], 100)) == 4


def test_uncertainty_is_the_margin_of_two_labels() -> None:
    rows, _ = predictions(5, logits=False, top_k=2)
    for found, topk in zip(uncertainty_of(rows["topk"]), rows["topk"].to_pylist(), strict=True):
        assert found == pytest.approx(1 - topk[0]["score"] + topk[1]["score"], abs=1e-6)
    assert notes_of(queue_of(rows, None, 5)) == [LEAST_CERTAIN]
    assert queue_of(rows, None, 2).column_names == ["rank", "id", "uri", "label", "score", "uncertainty"]
    with pytest.raises(UsageError, match="run with --top-k 2 or more"):
        uncertainty_of(predictions(2, logits=False, top_k=1)[0]["topk"])


def test_queue_says_why_it_has_fewer_units_than_asked_for() -> None:
    rows, _ = predictions(9, logits=False)
    features = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    features[1:4] = features[0]
    known = pa.array([None] * 7 + ["1", "2"], pa.string())
    queue = queue_of(rows, features, 100, known)
    assert set(queue["id"].to_pylist()) - {"000", "001", "002", "003"} == {"004", "005", "006"}
    assert notes_of(queue) == ["fewer than 100 units: 9 units in all, less 2 with a known label and 3 near duplicates"]
    assert notes_of(queue_of(rows, features, 4, known)) == []
    assert notes_of(queue_of(rows, None, 8, known)) == [
        LEAST_CERTAIN,
        "fewer than 8 units: 9 units in all, less 2 with a known label",
    ]
    assert notes_of(queue_of(rows, None, 10)) == [LEAST_CERTAIN, "fewer than 10 units: 9 units in all"]
    queue = queue_of(rows, features, 1, pa.array(["1"] * 9))
    assert (queue.num_rows, notes_of(queue)) == (0, ["fewer than 1 unit: 9 units in all, less 9 with a known label"])


def test_queue_goes_on_where_the_least_certain_units_are_all_alike() -> None:
    features = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    features[:80] = features[0]
    assert next_to_label(np.linspace(1, 0, 100), features, 3).tolist()[0] == 0
    assert len(next_to_label(np.linspace(1, 0, 100), features, 3)) == 3
    assert len(next_to_label(np.linspace(1, 0, 100), features, 30)) == 21


def export(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["export", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rankings_of_runs_are_exported(tmp_path: Path, checkpoint: Path) -> None:
    source, output = images(tmp_path), str(tmp_path / "out")
    (source / "copy.png").write_bytes((source / "0.png").read_bytes())
    example_runs.run("image-classification", source, output, checkpoint, latents=True, logits=True)
    rows = list(open_run(output).rows(["id", "label"]))
    names = open_run(output).run.label_names
    wrong = rows[0]["id"]
    lines = [f"{row['id']},{names[(row['id'] == wrong) ^ (row['label'] == names[0])]}\n" for row in rows]
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(lines))
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("elsewhere.png,x\n")
    printed = export(output, str(tmp_path / "m.csv"), "--to", "mistakes", "--labels", str(tmp_path / "labels.csv"))
    assert "of 9 labels are probably wrong" in printed
    assert "labels.csv: 1 of 10 ids is without a row: 'elsewhere.png'" in " ".join(printed.split())
    found = table(tmp_path / "m.csv")
    assert [row["rank"] for row in found] == [str(number) for number in range(1, 10)]
    assert set(found[0]) == {"rank", "id", "uri", "known_label", "label", "score", "known_score", "quality", "mistake"}
    printed = export(output, str(tmp_path / "d.csv"), "--to", "duplicates")
    assert "1 group of units that resemble each other" in printed
    assert {row["id"] for row in table(tmp_path / "d.csv")} == {"0.png", "copy.png"}
    (tmp_path / "some.csv").write_text("id,label\n1.png,x\n2.png,y\n[/red].png,y\n3.png,\n")
    with_labels = ("--labels", str(tmp_path / "some.csv"))
    printed = export(output, str(tmp_path / "q.csv"), "--to", "queue", "--count", "4", *with_labels)
    assert "some.csv: 1 unlabelled row, without a label or an id" in " ".join(printed.split())
    assert "1 of 3 ids is without a row: '[/red].png'" in " ".join(printed.split())
    printed = export(output, str(tmp_path / "all.csv"), "--to", "queue", *with_labels)
    said = "fewer than 100 units: 9 units in all, less 2 with a known label and 1 near duplicate"
    assert said in " ".join(printed.split())
    queued = {row["id"] for row in table(tmp_path / "q.csv")}
    assert len(queued) == 4
    assert not {"1.png", "2.png"} & queued
    assert not {"0.png", "copy.png"} <= queued


def test_mistakes_of_features_are_those_of_a_probe(tmp_path: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    example_runs.run("feature-extraction", images(tmp_path), output, checkpoint)
    found = open_run(output).mistakes(labelled(open_run(output), tmp_path))
    assert sorted(found["id"].to_pylist()) == [f"{number}.png" for number in range(8)]
    assert set(found["known_label"].to_pylist()) == {"even", "odd"}


def test_options_of_other_formats_are_refused(tmp_path: Path, image_run: Path) -> None:
    for arguments, reason in {
        (
            "--to",
            "csv",
            "--labels",
            "x.csv",
        ): "--labels is not supported for --to csv, only for dataset, mistakes, queue",
        ("--to", "duplicates", "--labels", "x.csv"): "--labels is not supported for --to duplicates",
        ("--to", "mistakes", "--count", "3"): "--count is not supported for --to mistakes, only for queue",
        ("--to", "mistakes"): "no labels are known: name a file",
    }.items():
        printed = " ".join(export(str(image_run), str(tmp_path / "x"), *arguments, code=2).split())
        assert reason in printed
    assert list(tmp_path.iterdir()) == []

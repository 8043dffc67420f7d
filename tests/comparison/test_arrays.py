"""Runs with flow, clips, masks and embeddings compared: each figure is that of numpy on the stored arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import compare, open_run
from pipeline.comparison import pairs
from pipeline.comparison.clip_differences import psnr
from pipeline.comparison.mask_changes import TokenChange
from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.errors import UsageError
from tests import example_runs
from tests.comparison.another_run import another_run

TEXTS = ["one [MASK] here", "two [MASK] and [MASK]", "none", "[MASK] first"]


@pytest.fixture(scope="module")
def other_flow(flow_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flow of another checkpoint, in parts of other sizes."""
    folder = tmp_path_factory.mktemp("flow")
    checkpoint = make_checkpoint(FLOW, small(FLOW), folder / "model", seed=7)
    example_runs.run("optical-flow", flow_run.parent / "in", folder / "out", checkpoint, shard_size=2)
    return folder / "out"


def test_end_point_differences_are_those_of_the_arrays(flow_run: Path, other_flow: Path) -> None:
    found = compare(flow_run, other_flow)
    first, second = open_run(flow_run), open_run(other_flow)
    wanted = {}
    for row in first.rows(["id"]):
        distances = np.linalg.norm(second.flow(row["id"]) - first.flow(row["id"]), axis=-1)
        wanted[row["id"]] = distances.mean(), np.percentile(distances, 95)
    assert found.flow is not None
    assert (found.flow.units, found.flow.same, found.flow.unequal) == (len(wanted), 0, 0)
    assert found.flow.mean == pytest.approx(np.mean([mean for mean, _ in wanted.values()]))
    rows = found.differences.to_pylist()
    assert [row["id"] for row in rows] == sorted(wanted, key=lambda unit: -wanted[unit][0])
    for row in rows:
        assert (row["end_point_mean"], row["end_point_p95"]) == pytest.approx(wanted[row["id"]])
    assert all(row["changed"] == ["flow"] for row in rows)


def test_rows_are_read_side_by_side_whatever_the_parts(
    flow_run: Path, other_flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = compare(flow_run, other_flow).differences
    monkeypatch.setattr(pairs, "HELD", 1)
    assert compare(flow_run, other_flow).differences.equals(wanted)
    turned = compare(other_flow, flow_run).differences
    assert turned["id"].to_pylist() == wanted["id"].to_pylist()
    assert turned["motion_a"].to_pylist() == wanted["motion_b"].to_pylist()


def test_frames_of_another_size_are_counted(flow_run: Path, tmp_path: Path) -> None:
    def turned(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"height": row["width"], "width": row["height"]} if row["id"].startswith("two") else {})

    found = compare(flow_run, another_run(flow_run, tmp_path / "out", turned))
    assert found.flow is not None
    assert (found.flow.units, found.flow.same, found.flow.unequal) == (3, 3, 2)
    assert "not compared: 2 units with other frames or points in B" in found.describe()
    assert found.differences["end_point_mean"].null_count == found.differences.num_rows == 2


def test_flow_of_points_is_compared_with_that_of_points_only(flow_run: Path, tmp_path: Path) -> None:
    source, model = flow_run.parent / "in", flow_run.parent / "model"
    for name, points in {"one": [(3, 4), (5, 6)], "two": [(3, 4), (5, 6)], "three": [(1, 1), (5, 6)]}.items():
        example_runs.run("optical-flow", source, tmp_path / name, model, points=points)
    found = compare(tmp_path / "one", tmp_path / "two")
    assert found.flow is not None
    assert (found.flow.units, found.flow.same) == (5, 5)
    other = compare(tmp_path / "one", tmp_path / "three")
    assert other.flow is not None
    assert (other.flow.units, other.flow.unequal) == (0, 5)
    with pytest.raises(UsageError, match="columns that only B has are not compared: points"):
        compare(flow_run, tmp_path / "one")


def test_psnr_between_clips_is_that_of_the_arrays(clip_run: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(MULTIMODAL, small(MULTIMODAL, **example_runs.CLIP), tmp_path / "model", seed=7)
    example_runs.run("multimodal-autoencoding", clip_run.parent / "in", tmp_path / "out", checkpoint)
    found = compare(clip_run, tmp_path / "out")
    first, second = open_run(clip_run), open_run(tmp_path / "out")
    video, audio = found.clips
    assert (video.clips, video.same, audio.clips, audio.same) == (2, 0, 2, 0)
    for row in found.differences.to_pylist():
        frames = [run.video(row["id"]) / 255 for run in (first, second)]
        error = np.mean((frames[0] - frames[1]) ** 2)
        assert row["video_psnr_between_db"] == pytest.approx(-10 * np.log10(error), rel=1e-4)
        samples = [run.audio(row["id"])[0] for run in (first, second)]
        assert row["audio_psnr_between_db"] == pytest.approx(10 * np.log10(4 / np.mean((samples[0] - samples[1]) ** 2)))
        (own,) = second.rows(["video_psnr_db"], ids=[row["id"]])
        assert row["video_psnr_db_b"] == own["video_psnr_db"]
    assert found.labels is not None
    assert found.labels.units == 2


def test_clips_that_are_the_same_have_no_psnr(clip_run: Path, tmp_path: Path) -> None:
    found = compare(clip_run, another_run(clip_run, tmp_path / "out"))
    assert [(each.clips, each.same, each.mean) for each in found.clips] == [(2, 2, None)] * 2
    assert found.differences.num_rows == 0
    assert psnr(np.zeros(4), np.full(4, 0.5), 1.0) == pytest.approx(6.0206, abs=1e-4)


@pytest.fixture(scope="module")
def mask_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    (folder / "lines.txt").write_text("\n".join(TEXTS))
    checkpoint = make_checkpoint(MASKED_LM, small(MASKED_LM), folder / "model")
    example_runs.run("fill-mask", folder / "lines.txt", folder / "out", checkpoint)
    return folder / "out"


def test_tokens_that_changed_are_counted(mask_run: Path, tmp_path: Path) -> None:
    def changed(row: dict[str, Any]) -> dict[str, Any]:
        if row["text"].startswith("two"):  # its second mask
            best = row["masks"][1]["candidates"][0]
            best.update(token_id=best["token_id"] + 1, token="[x]")
        elif row["text"].startswith("one"):
            row["masks"][0]["candidates"][0]["score"] += 0.25
        elif row["text"].startswith("[MASK]"):
            row["masks"][0]["position"] += 1
        return row

    before = {row["text"]: row for row in open_run(mask_run).rows(["text", "masks", "id"])}
    found = compare(mask_run, another_run(mask_run, tmp_path / "out", changed))
    assert found.masks is not None
    assert (found.masks.texts, found.masks.masks, found.masks.same, found.masks.unequal) == (2, 3, 2, 1)
    best = before["two [MASK] and [MASK]"]["masks"][1]["candidates"][0]
    ids = best["token_id"], best["token_id"] + 1
    assert found.masks.changes == [TokenChange(a=best["token"], b="[x]", ids=ids, masks=1)]
    moved, two, one = found.differences.to_pylist()
    assert [row["id"] for row in (moved, two, one)] == [before[TEXTS[place]]["id"] for place in (3, 1, 0)]
    assert (moved["tokens_changed"], two["tokens_changed"], one["tokens_changed"]) == (None, 1, 0)
    assert (two["tokens_b"][1], two["changed"], one["changed"]) == ("[x]", ["tokens"], ["scores"])


def test_cosines_are_those_of_the_embeddings(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    example_runs.run("feature-extraction", image_run.parent / "in", tmp_path / "one", checkpoint, max_quarantine=0.5)

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"embedding": [value + 1 for value in row["embedding"]]} if row["id"] == "e.png" else {})

    found = compare(tmp_path / "one", another_run(tmp_path / "one", tmp_path / "two", moved))
    assert found.embeddings is not None
    assert (found.embeddings.units, found.embeddings.same) == (8, 7)
    (row,) = found.differences.to_pylist()
    (own,) = open_run(tmp_path / "one").rows(["embedding"], ids=["e.png"])
    first = own["embedding"].astype(np.float64)
    cosine = first @ (first + 1) / np.linalg.norm(first) / np.linalg.norm(first + 1)
    assert row == {"id": "e.png", "runs": "A and B", "changed": ["embedding"], "cosine": pytest.approx(cosine)}
    shorter = another_run(tmp_path / "one", tmp_path / "three", lambda row: row | {"embedding": row["embedding"][:-1]})
    other = compare(tmp_path / "one", shorter).embeddings
    assert other is not None
    assert (other.units, other.unequal) == (0, 8)


def test_known_labels_are_refused_for_runs_without_labels(mask_run: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\nlines.txt#0,x\n")
    with pytest.raises(UsageError, match="--labels needs labels in the rows of both runs"):
        compare(mask_run, another_run(mask_run, tmp_path / "out"), labels=tmp_path / "labels.csv")

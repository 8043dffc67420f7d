"""open_run: rows, quarantined units and arrays of a run as a user reads them, compared with the files in OUTPUT."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.results import Results, open_run
from pipeline.runtime.errors import UsageError
from pipeline.storage import Store
from tests import example_runs


def stored_rows(output: Path) -> list[dict]:
    """Read the rows as any program would."""
    return [row for part in sorted((output / "predictions").iterdir()) for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def images(image_run: Path) -> Results:
    return open_run(image_run)


@pytest.fixture(scope="module")
def labels_of(image_run: Path) -> dict[str, str]:
    return {row["id"]: row["label"] for row in stored_rows(image_run)}


def test_rows_are_those_of_the_parts_in_order(images: Results, image_run: Path) -> None:
    stored, rows = stored_rows(image_run), list(images.rows())
    assert len(rows) == len(example_runs.IMAGES)
    for row, other in zip(rows, stored, strict=True):
        assert row.keys() == other.keys()
        assert row["latents"].dtype == np.float16
        np.testing.assert_array_equal(row.pop("latents"), np.array(other.pop("latents"), np.float16))
        assert row == other


def test_rows_are_selected_by_columns_ids_and_parts(images: Results, image_run: Path) -> None:
    wanted = ["cats/a#1.png", "e.png"]
    assert list(images.rows(columns=["label", "id"], ids=wanted)) == [
        {"label": row["label"], "id": row["id"]} for row in stored_rows(image_run) if row["id"] in wanted
    ]
    first, second, third = images.parts()
    assert [row["id"] for part in (third, first, second) for row in images.rows(["id"], parts=[part])] == [
        row["id"] for row in images.rows(["id"], parts=[third, first, second])
    ]
    assert sum(batch.num_rows for batch in images.batches(["id"], parts=[second])) == 3  # and one quarantined


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("score >= 0", lambda _: True),
        ("score > 0.2 and id like 'cats/%' -- a comment", lambda row: row["score"] > 0.2 and row["id"][:5] == "cats/"),
        ("topk[2].score > 0.15", lambda row: row["topk"][1]["score"] > 0.15),
        ("len(latents) = 1", lambda _: False),
        ("label = 'it''s'", lambda _: False),
    ],
)
def test_rows_are_selected_by_a_condition(images: Results, image_run: Path, where: str, wanted) -> None:
    expected = [row["id"] for row in stored_rows(image_run) if wanted(row)]
    assert [row["id"] for row in images.rows(["id"], where=where)] == expected
    assert images.to_arrow(["id"], where=where)["id"].to_pylist() == expected


def test_a_condition_and_ids_both_apply(images: Results, labels_of: dict[str, str]) -> None:
    wanted = list(labels_of)[:3]
    found = images.rows(["id"], ids=wanted, where=f"label = '{labels_of[wanted[1]]}'")
    assert [row["id"] for row in found] == [one for one in wanted if labels_of[one] == labels_of[wanted[1]]]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("scor < 0.5", "'scor', which must be one of the columns id, .*did you mean score"),
        ('label = "cat"', "'cat', which must be one of .*text is quoted with single quotes"),
        ("score <", "is not valid: Parser Error"),
        ("true) union select 1 --", "is not valid: Parser Error"),
        ("true; drop table x", "is not valid: Parser Error"),
        ("count(*) > 1", "WHERE clause cannot contain aggregates"),
        ("label", "Could not convert string"),
        ("(select count(*) from read_csv('/etc/passwd')) > 0", "file system operations are disabled"),
        ("(select count(*) from 'https://example.com/a.parquet') > 0", "disabled"),
        ("score > (select avg(score) from rows)", "does not exist"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(images: Results, where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(images.rows(["id"], where=where))


def test_a_condition_without_duckdb_names_the_extra(images: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError, match=r"requires DuckDB: pip install 'perceiver-pipeline\[export\]'"):
        list(images.rows(where="score < 0.1234"))


def test_a_wrong_column_is_named_with_a_similar_one(images: Results) -> None:
    for read in (images.rows, images.to_arrow, images.to_pandas, images.batches):
        with pytest.raises(UsageError, match=r"column 'lable' must be one of id, uri, .*\(did you mean label\?\)"):
            list(read(columns=["lable"]))
    with pytest.raises(UsageError, match="must be lists of names"):
        list(images.rows(columns="label"))


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("dogs/bad.png", "'dogs/bad.png' is quarantined: BadMedium truncated PNG"),
        ("a#1.png", "'a#1.png' is not the id of a unit with a row in .*; did you mean 'cats/a#1.png'"),
        ("Cats/B.PNG", "did you mean 'cats/b.png'"),
        ("dogs/cc.jpg", "did you mean 'dogs/c.jpg'"),
        ("nothing like it", "'nothing like it' is not the id of a unit with a row in [^;]*$"),
    ],
)
def test_a_unit_without_a_row_says_why(images: Results, unit: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        images.latents(unit)
    with pytest.raises(UsageError, match=message):
        next(images.rows(ids=["e.png", unit]))


def test_to_arrow_and_to_pandas_hold_all_rows(images: Results, image_run: Path) -> None:
    table, frame = images.to_arrow(), images.to_pandas(["id", "score"])
    assert table.equals(pa.concat_tables(pq.read_table(part) for part in sorted((image_run / "predictions").iterdir())))
    assert list(frame["id"]) == [row["id"] for row in stored_rows(image_run)]
    assert frame["score"].dtype == np.float32


def test_quarantined_units_have_their_reason(images: Results) -> None:
    (unit,) = images.quarantined().to_pylist()
    assert (unit["id"], unit["stage"], unit["error"]) == ("dogs/bad.png", "load", "BadMedium")


def test_units_that_a_retry_predicted_are_no_longer_quarantined(tmp_path: Path, checkpoint: Path) -> None:
    output = example_runs.image_run(tmp_path, checkpoint)
    (tmp_path / "in/dogs/bad.png").write_bytes((tmp_path / "in/e.png").read_bytes())
    options = {"latents": True, "top_k": 3, "max_quarantine": 0.5}
    summary = example_runs.run(
        "image-classification", tmp_path / "in", output, checkpoint, **options, retry_quarantined=True
    )
    results = open_run(output)
    assert (summary.quarantined, results.quarantined().num_rows) == (0, 0)
    assert len(results.latents("dogs/bad.png"))


def test_latents_are_those_of_the_row(images: Results, image_run: Path) -> None:
    row = stored_rows(image_run)[2]
    latents = images.latents(row["id"])
    assert latents.shape == (row["num_latents"], row["d_latents"])
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents.reshape(-1), np.array(row["latents"], np.float32))


def test_flow_has_the_shape_of_its_frames(flow_run: Path) -> None:
    results = open_run(flow_run)
    for row in stored_rows(flow_run):
        flow = results.flow(row["id"])
        assert (flow.shape, flow.dtype) == ((14, 20, 2), np.float32)
        np.testing.assert_array_equal(flow.reshape(-1), np.array(row["flow"], np.float32))


def test_video_and_audio_are_those_of_the_row(clip_run: Path) -> None:
    results = open_run(clip_run)
    for row in stored_rows(clip_run):
        with av.open(io.BytesIO(row["video"]["bytes"])) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        np.testing.assert_array_equal(results.video(row["id"]), frames)
        samples, rate = results.audio(row["id"])
        with wave.open(io.BytesIO(row["audio"]["bytes"])) as file:
            assert (rate, len(samples)) == (file.getframerate(), file.getnframes())
        assert (samples.shape[1], samples.dtype) == (1, np.float32)
        assert np.abs(samples).max() <= 1


def test_arrays_that_a_run_does_not_have_are_refused(images: Results, flow_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no flow: its task is image-classification; only optical-flow has flow"):
        images.flow("e.png")
    with pytest.raises(UsageError, match="has no latents: the run was made without --latents"):
        open_run(flow_run).latents("two.mp4#0.000")
    points = open_run(example_runs.flow_run(tmp_path, points=((1, 2), (3, 4))))
    with pytest.raises(UsageError, match="the flow of some points only, because the run has --points"):
        points.flow("two.mp4#0.000")


def test_clips_without_video_say_which_option_left_it_out(tmp_path: Path) -> None:
    results = open_run(example_runs.clip_run(tmp_path, outputs=("label",)))
    with pytest.raises(UsageError, match="has no audio: the run's --outputs or --points leave it out"):
        results.audio("m.mp4#0.000")


def test_a_run_without_parts_has_no_rows(image_run: Path, tmp_path: Path) -> None:
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run/run.json").write_bytes((image_run / "_run/run.json").read_bytes())
    results = open_run(tmp_path)
    assert (results.parts(), list(results.rows()), list(results.batches()), len(results.quarantined())) == (
        [],
        [],
        [],
        0,
    )
    assert results.to_arrow().num_rows == len(results.to_pandas(["id"])) == 0
    with pytest.raises(UsageError, match="has no rows yet"):
        results.flow("a")
    with pytest.raises(UsageError, match="'a' is not the id of a unit with a row"):
        list(results.rows(ids=["a"]))
    assert "not finished" in repr(results)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not the OUTPUT of a run: it has no _run/run\.json"):
        open_run(tmp_path)


def test_results_describe_themselves(images: Results, image_run: Path) -> None:
    assert repr(images) == f"<Results of image-classification in {image_run}: 8 rows, 1 quarantined>"
    assert f"<td>{image_run}</td>" in images._repr_html_()


def test_hostile_names_are_inert_in_a_notebook(image_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert('x')"
    folder.symlink_to(image_run)
    shown = open_run(folder)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert" in shown


def test_results_in_object_storage_are_read_the_same(image_run: Path, s3) -> None:
    bucket = Store(s3.bucket("results"))
    for path in image_run.rglob("*.*"):
        bucket.put(f"out/{path.relative_to(image_run)}", path.read_bytes())
    results, local = open_run(f"{bucket.uri}/out"), open_run(image_run)
    assert results.to_arrow().equals(local.to_arrow())
    assert results.quarantined().equals(local.quarantined())
    np.testing.assert_array_equal(results.latents("e.png"), local.latents("e.png"))


def test_dataset_holds_the_rows(image_run: Path, cluster: None) -> None:
    results = open_run(image_run)
    dataset = results.dataset(["id", "label", "latents"])
    stored = {row["id"]: row for row in results.rows()}
    rows = dataset.take_all()
    assert sorted(row["id"] for row in rows) == sorted(stored)
    for row in rows:
        assert row["label"] == stored[row["id"]]["label"]
        np.testing.assert_array_equal(row["latents"], stored[row["id"]]["latents"])
    with pytest.raises(UsageError, match="did you mean label"):
        results.dataset(["labels"])


def test_importing_the_package_loads_nothing_and_a_name_loads_neither_torch_nor_ray() -> None:
    code = "import sys, pipeline\nbefore = set(sys.modules)\npipeline.open_run\nprint(*before)\nprint(*sys.modules)"
    before, after = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert not {"pyarrow", "numpy", "torch", "ray"} & set(before.split())
    assert "pyarrow" in after.split()
    assert not {"torch", "ray", "duckdb", "pandas"} & set(after.split())


def test_the_package_lists_its_names_and_refuses_others() -> None:
    assert pipeline.open_run is open_run
    assert {"open_run", "Results"} <= set(dir(pipeline))
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'open_runs'"):
        pipeline.open_runs  # noqa: B018

"""Runs from end to end: real images, a real checkpoint, real parts, on a local disk and on S3."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console

from pipeline.checkpoints import digests
from pipeline.perceiver import CheckpointError
from pipeline.runtime.driver.run import execute
from pipeline.runtime.driver.status import status
from pipeline.runtime.errors import RunFailed, TooMuchQuarantined
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.receipts import read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.parts import encode_part, part_key, read_footer
from pipeline.storage import AccessError, Store

DAMAGED = [5, 17, 18, 42, 59]


@pytest.fixture
def options(image_folder: Path, checkpoint: Path, tmp_path: Path, backend: None) -> Callable[..., RunOptions]:
    def make(**changes: object) -> RunOptions:
        values = {"input": str(image_folder), "output": str(tmp_path / "out"), "checkpoint": str(checkpoint)}
        defaults = {"task": "image-classification", "shard_size": 8, "max_quarantine": 0.2}
        return RunOptions(**(values | defaults | changes))

    return make


def rows_of(output: Store) -> list[dict]:
    """Return the rows of all parts, in part order."""
    parts = list(output.keys("predictions/"))
    return [row for key in parts for row in pq.read_table(io.BytesIO(output.read(key))).to_pylist()]


def quarantined_of(output: Store) -> list[dict]:
    parts = list(output.keys("quarantine/"))
    return [row for key in parts for row in pq.read_table(io.BytesIO(output.read(key))).to_pylist()]


def run(options: RunOptions) -> tuple[object, str]:
    """Run and return the summary and the console output."""
    sink = io.StringIO()
    return execute(options, console=Console(file=sink, width=300)), sink.getvalue()


def reference(checkpoint: Path, path: Path) -> np.ndarray:
    """Return probabilities computed by transformers alone."""
    from transformers import PerceiverForImageClassificationFourier, PerceiverImageProcessorPil

    model = PerceiverForImageClassificationFourier.from_pretrained(checkpoint).eval()
    processor = PerceiverImageProcessorPil.from_pretrained(checkpoint)
    with torch.inference_mode():
        pixels = processor(Image.open(path).convert("RGB"), return_tensors="pt").pixel_values
        return model(pixels).logits.softmax(-1)[0].numpy()


def test_images_in_parquet_out(options, image_folder, checkpoint, tmp_path):
    summary, _ = run(options(replicas=2))
    output = Store(str(tmp_path / "out"))
    assert (summary.units, summary.rows, summary.quarantined, summary.shards) == (60, 55, 5, 8)
    rows, failed = rows_of(output), quarantined_of(output)
    assert [int(row["id"][:4]) for row in rows] == [n for n in range(60) if n not in DAMAGED], "plan order, each once"
    assert [int(unit["id"][:4]) for unit in failed] == DAMAGED
    for row in rows[::9]:
        scores = reference(checkpoint, image_folder / row["id"])
        assert row["label_id"] == int(scores.argmax())
        assert row["score"] == pytest.approx(float(scores.max()), abs=1e-4)
        assert row["uri"] == str(image_folder / row["id"])
        assert row["segment"] == 0
    part = pq.read_schema(tmp_path / "out" / part_key(summary.run, 0))
    assert part.names == ["id", "uri", "version", "segment", "frames", "label_id", "label", "score", "topk"]
    assert b"huggingface" in part.metadata
    manifest = json.loads(output.read("_run/manifest.json"))
    assert {name: manifest[name] for name in ("parts", "units", "rows", "quarantined")} == {
        "parts": 8,
        "units": 60,
        "rows": 55,
        "quarantined": 5,
    }
    assert manifest["seconds"]["predict"] > 0
    known = status(output)
    assert (known.shards_done, known.plan.shards, known.rows, known.quarantined) == (8, 8, 55, 5)
    assert (known.plan.units, known.finished, known.bytes) == (60, True, summary.bytes)
    assert known.units_per_second > 0


def test_same_command_predicts_new_inputs(options, image_folder, tmp_path, write_images):
    output = Store(str(tmp_path / "out"))
    first, _ = run(options(limit=16))
    assert (first.units, first.shards) == (16, 2)
    nothing, said = run(options(limit=16))
    assert (nothing.resumed, nothing.rows) == (2, first.rows)
    assert "resuming: 2 of 2 shards done" in said
    drivers = {receipt.driver for receipt in read_receipts(output, read_run(output).run).values()}
    write_images(image_folder, [100, 101])
    Image.new("RGB", (40, 40)).save(image_folder / "0000.jpg")
    grown, said = run(options())
    assert "1 input changed since the plan was made" in said
    assert (grown.segments, grown.units, grown.changed, grown.resumed) == (2, 62, 1, 2)
    rows = rows_of(output)
    assert len({row["id"] for row in rows}) == len(rows) == 57
    assert {row["segment"] for row in rows if row["id"] in ("0100.jpg", "0101.png")} == {1}
    recorded = read_receipts(output, read_run(output).run)
    assert {shard for shard, receipt in recorded.items() if receipt.driver in drivers} == {0, 1}, "no shard ran again"


def test_output_below_input_by_a_link_is_not_read_in_the_second_night(options, image_folder, tmp_path):
    (tmp_path / "link").symlink_to(image_folder)
    for _ in range(2):
        summary, said = run(options(input=f"{image_folder}/", output=f"{tmp_path}/link/../link/sub/out"))
        assert (summary.units, summary.rows, summary.quarantined) == (60, 55, 5)
        assert len(rows_of(Store(f"{image_folder}/sub/out"))) == 55
    assert re.search(r"^left out: \d+, in the OUTPUT of a run: sub/out/$", said, re.MULTILINE), "one line, one folder"


def test_what_is_left_out_of_a_folder_is_said_and_counted_once_however_often_the_run_resumes(
    options, image_folder, tmp_path
):
    (image_folder / "IMG_3.HEVC").write_bytes(b"unknown")
    (image_folder / "notes.txt").write_text("text")
    (image_folder / "gone.png").symlink_to(tmp_path / "not-fetched")
    (image_folder / "_edited").mkdir()
    (image_folder / "_edited/0000.jpg").write_bytes(b"hidden")
    wanted = {"unknown kind": 1, "not the task's medium": 1, "dangling link": 1, "hidden": 1}
    output = Store(str(tmp_path / "out"))
    for _ in range(2):
        summary, said = run(options())
        assert "left out: 1, dangling link: gone.png\nleft out: 1, hidden: _edited/0000.jpg\n" in said
        assert (summary.units, summary.listed.listed, summary.listed.left_out) == (60, 64, wanted)
        inputs = json.loads(output.read("_run/manifest.json"))["inputs"]
        assert (inputs["listed"], inputs["read"], inputs["left_out"]) == (64, 60, wanted)
        assert status(output).listed == summary.listed
        assert len(rows_of(output)) == 55
        (files,) = output.keys("_run/left_out/")
        assert pq.read_table(io.BytesIO(output.read(files))).num_rows == 4


def test_changed_inputs_are_predicted_again_with_changed_redo(options, image_folder, tmp_path):
    run(options(limit=8))
    Image.new("RGB", (40, 40), "red").save(image_folder / "0000.jpg")
    summary, _ = run(options(limit=9, changed="redo"))
    rows = [row for row in rows_of(Store(str(tmp_path / "out"))) if row["id"] == "0000.jpg"]
    assert summary.segments == 2
    assert [row["segment"] for row in rows] == [0, 1]
    assert rows[0]["version"] != rows[1]["version"]


def test_from_s3_to_s3(options, image_folder, checkpoint, s3):
    bucket = s3.bucket("runs")
    inputs, output = Store(f"{bucket}/my images"), Store(f"{bucket}/out")
    for path in sorted(image_folder.iterdir()):
        inputs.put(f"été #1/{path.name}", path.read_bytes())
    summary, _ = run(options(input=inputs.uri, output=output.uri))
    assert (summary.rows, summary.quarantined) == (55, 5)
    rows = rows_of(output)
    assert len({row["id"] for row in rows}) == 55
    assert rows[0]["id"] == "été #1/0000.jpg"
    scores = reference(checkpoint, image_folder / "0000.jpg")
    assert rows[0]["score"] == pytest.approx(float(scores.max()), abs=1e-4)
    assert len(quarantined_of(output)) == 5
    again, said = run(options(input=inputs.uri, output=output.uri))
    assert (again.rows, again.resumed) == (55, 8)
    written = "".join(output.read(key).decode("latin1") for key in output.keys("_run/") if key.endswith(".json"))
    assert "testing-secret-canary" not in written + said


def test_store_without_conditional_put_needs_single_writer(options, s3, s3_proxy):
    output = Store(f"{s3.bucket('unconditional')}/out")
    s3_proxy.without_header = "If-None-Match"
    with pytest.raises(AccessError, match=rf"{output.uri} does not support conditional writes.*single-writer"):
        run(options(output=output.uri))
    assert list(Store(output.uri, single_writer=True).keys("")) == []
    summary, _ = run(options(output=output.uri, single_writer=True))
    assert (summary.rows, summary.quarantined) == (55, 5)
    again, _ = run(options(output=output.uri, single_writer=True))
    assert (again.rows, again.resumed) == (55, 8)


def test_too_many_quarantined_units_stop_the_run_and_a_higher_limit_resumes_it(options, tmp_path):
    message = (
        r"of 60 units.*max_quarantine \(0\.02\) allows: \d like 00\d\d\.\w+ \(truncated .*\); see .*/quarantine\. The"
    )
    with pytest.raises(TooMuchQuarantined, match=message):
        run(options(max_quarantine=0.02))
    output = Store(str(tmp_path / "out"))
    done = list(output.keys("predictions/"))
    assert "_run/manifest.json" not in output.keys("_run/")
    summary, _ = run(options(max_quarantine=0.1))
    assert summary.rows == 55
    assert summary.resumed >= len(done) > 0, "committed shards stay"
    with pytest.raises(TooMuchQuarantined):
        run(options(max_quarantine=0.02))


def test_checkpoint_changed_since_the_plan_is_refused_with_both_digests(options, monkeypatch):
    planned, digest = iter(["0ff"]), digests.digest
    monkeypatch.setattr(digests, "digest", lambda folder: next(planned, None) or digest(folder))
    message = (
        r"its digest is \w{64}, .* planned with 0ff; 8 of 8 shards are left; with the planned checkpoint, the same"
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        run(options())
    assert "Traceback" not in str(caught.value)


def test_parts_without_a_receipt_are_counted_from_their_footers(options, tmp_path):
    output = Store(str(tmp_path / "out"))
    first, _ = run(options())
    for key in [*output.keys("_run/receipts/"), *output.keys("quarantine/")]:
        output.delete(key)
    lost = part_key(first.run, 3)
    output.delete(lost)
    summary, said = run(options())
    assert "resuming: 7 of 8 shards done" in said
    assert (summary.rows, summary.quarantined, summary.resumed) == (55, 5, 7)
    assert len(quarantined_of(output)) == 5
    recorded = read_receipts(output, read_run(output).run)
    assert [shard for shard, receipt in recorded.items() if receipt.driver] == [3]


def test_parts_that_another_process_changed_are_detected(options, tmp_path):
    output = Store(str(tmp_path / "out"))
    first, _ = run(options(limit=8))
    key = part_key(first.run, 0)
    table = pq.read_table(io.BytesIO(output.read(key)))
    footer = read_footer(output, key)
    output.put(key, encode_part(table.slice(1), type(footer)(**(vars(footer) | {"rows": footer.rows - 1}))))
    for name in output.keys("_run/receipts/"):
        output.delete(name)
    with pytest.raises(RunFailed, match=r"the plan has 8 units, but .*out has 6 rows and 1 quarantined unit:"):
        run(options(limit=8, max_quarantine=0.2))

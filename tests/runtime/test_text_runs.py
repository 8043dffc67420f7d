"""Run text tasks end to end over lines and records, plain and compressed, on S3, and compare with transformers."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from transformers import PerceiverForMaskedLM, PerceiverForSequenceClassification, PerceiverTokenizer

from pipeline.reference.published_configs import MASKED_LM, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.checks import check_run
from pipeline.runtime.driver.run import execute
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage import AccessError, Store

LINES = ["", "[MASK]", *(f"{number} of [MASK], größer 🙂 [MASK]" + "." * 7 * number for number in range(24))]
RECORDS = [f"record [MASK] {number}" for number in range(10)]


@pytest.fixture(scope="module")
def texts(s3) -> str:
    """The URI of a folder on S3 with 26 lines and ten records."""
    uri = s3.bucket("texts")
    records = "".join(json.dumps({"n": 1, "body": text, "text": "another"}) + "\n" for text in RECORDS)
    files = {"in/a.txt": "\n".join(LINES).encode(), "in/b.jsonl.gz": gzip.compress(records.encode())}
    for key, body in files.items():
        s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=key, Body=body)
    return uri


def rows(task: str, source: str, output: str, checkpoint: Path, **changes: object) -> list[dict]:
    """Run, assert that nothing is quarantined, and return the rows in order of parts."""
    options = RunOptions(task=task, input=source, output=output, checkpoint=str(checkpoint), **changes)
    execute(options, console=Console(file=io.StringIO()))
    store = Store(output)
    assert list(store.keys("quarantine/")) == []
    return [row for key in store.keys("predictions/") for row in pq.read_table(io.BytesIO(store.read(key))).to_pylist()]


def test_masks_in_lines_are_filled_as_by_transformers(texts: str, tmp_path: Path, backend: None) -> None:
    folder = make_checkpoint(MASKED_LM, small(MASKED_LM, max_position_embeddings=256), tmp_path / "model")
    found = rows("fill-mask", f"{texts}/in/*.txt", f"{texts}/filled", folder)
    assert [row["text"] for row in found] == LINES
    offsets = np.cumsum([0, *(len(line.encode()) + 1 for line in LINES[:-1])])
    assert [row["id"] for row in found] == [f"a.txt#{offset}" for offset in offsets]
    assert {row["uri"] for row in found} == {f"{texts}/in/a.txt"}
    tokenizer, model = PerceiverTokenizer(), PerceiverForMaskedLM.from_pretrained(folder).eval()
    for row in found:
        ids = tokenizer(row["text"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            best = model(inputs=ids).logits[0][(ids[0] == 3).nonzero()[:, 0]].softmax(dim=-1).topk(5)
        assert [[each["token_id"] for each in mask["candidates"]] for mask in row["masks"]] == best.indices.tolist()
        scores = [[each["score"] for each in mask["candidates"]] for mask in row["masks"]]
        np.testing.assert_allclose(np.reshape(scores, (-1, 5)), best.values.numpy(), rtol=1e-3)


def test_records_are_labelled_as_by_transformers(texts: str, tmp_path: Path, backend: None) -> None:
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "model")
    source = f"{texts}/in/b.jsonl.gz"
    found = rows("text-classification", source, str(tmp_path / "out"), folder, column="body", logits=True)
    assert len(found) == 10
    tokenizer, model = PerceiverTokenizer(), PerceiverForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**tokenizer(RECORDS, return_tensors="pt", padding=True)).logits.numpy()
    np.testing.assert_allclose([row["logits"] for row in found], logits, rtol=1e-3, atol=1e-3 * np.ptp(logits))
    with pytest.raises(UsageError, match=r"column was \"body\", this run has null"):
        rows("text-classification", source, str(tmp_path / "out"), folder, logits=True)


def test_options_not_supported_for_a_head_or_source_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "a.txt").write_text("a line")
    values = {"input": str(tmp_path), "output": str(tmp_path / "out")}
    masked = str(make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path / "model"))
    with pytest.raises(UsageError, match="logits are not supported for fill-mask"):
        check_run(RunOptions(task="fill-mask", checkpoint=masked, logits=True, **values))
    images = {"task": "image-classification", "checkpoint": str(checkpoint), "column": "body"}
    with pytest.raises(UsageError, match="is not supported for images: the files have no columns"):
        check_run(RunOptions(input_format="images", **images, **values))
    with pytest.raises(UsageError, match=r"input_format 'text' does not support image; use one of: .*images"):
        check_run(RunOptions(input_format="text", **{**images, "column": None}, **values))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(AccessError, match=r"left out: .*without columns, while an option names one: a\.png"):
        check_run(RunOptions(**images, **values))

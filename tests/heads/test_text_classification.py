"""Text classification from a text to its row, with a small random checkpoint, against transformers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PerceiverForSequenceClassification, PerceiverTokenizer, TextClassificationPipeline

from pipeline.heads import HeadOptions, head_for
from pipeline.heads.text_inputs import length_bucket, pad
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference.published_configs import BARE, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint

NAMES = {0: "calm", 1: "glad", 2: "sad", 3: "angry", 4: "afraid"}
TEXTS = ["", "Good.", "größer als 🙂", "a [MASK] and [CLS]", "x" * 38, "x" * 39, "The whole of it is far too long " * 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with at most 40 tokens, and its tokenizer."""
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE, id2label=NAMES), tmp_path_factory.mktemp("model"))
    PerceiverTokenizer().save_pretrained(folder)
    return folder


def predicted(folder: Path, texts: list[str | bytes], options: HeadOptions, dtype: torch.dtype = torch.float32):
    """Return the columns of a micro-batch of texts, as a replica computes them."""
    head = head_for("text-classification", folder, options)
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    units = [head.transform(text) for text in texts]
    with torch.inference_mode():
        inputs = head.collate({name: [unit[name] for unit in units] for name in units[0]})
        rows = head.rows(head.decode(model, head.encode(model, inputs), inputs))
    assert rows.keys() == head.columns.keys()
    return {name: list(column) for name, column in rows.items()}


def test_rows_equal_those_of_transformers_pipeline(folder: Path) -> None:
    reference = TextClassificationPipeline(
        model=PerceiverForSequenceClassification.from_pretrained(folder),
        tokenizer=PerceiverTokenizer.from_pretrained(folder),
    )
    rows = predicted(folder, list(TEXTS), HeadOptions(top_k=3))
    for at, text in enumerate(TEXTS):
        theirs = reference(text, top_k=3, truncation=True, max_length=40)
        ours = rows["topk"][at]
        assert [each["label"] for each in ours] == [each["label"] for each in theirs]
        np.testing.assert_allclose([each["score"] for each in ours], [each["score"] for each in theirs], atol=1e-5)
        assert (rows["label"][at], rows["label_id"][at]) == (ours[0]["label"], ours[0]["label_id"])
    assert rows["truncated"] == [False] * 5 + [True] * 2
    assert rows["replaced"] == [False] * 7


def test_logits_do_not_depend_on_padding(folder: Path) -> None:
    whole = predicted(folder, list(TEXTS), HeadOptions(logits=True))["logits"]
    alone = [predicted(folder, [text], HeadOptions(logits=True))["logits"][0] for text in TEXTS]
    scale = np.abs(alone).max()
    np.testing.assert_allclose(whole, alone, rtol=1e-4, atol=1e-5 * scale)


def test_invalid_unicode_is_predicted_and_flagged(folder: Path) -> None:
    rows = predicted(folder, [b"good \xff", "good \ufffd", "good \ud800"], HeadOptions(logits=True))
    assert rows["replaced"] == [True, False, True]
    np.testing.assert_array_equal(rows["logits"][0], rows["logits"][1])
    np.testing.assert_array_equal(rows["logits"][2], rows["logits"][1])


def test_bfloat16_model_labels_a_text(folder: Path) -> None:
    rows = predicted(folder, list(TEXTS), HeadOptions(), torch.bfloat16)
    assert all(label in NAMES.values() for label in rows["label"])


def test_mask_covers_exactly_the_padding() -> None:
    three, five = np.arange(3, dtype=np.int16), np.arange(5, dtype=np.int16)
    ids, mask = pad([five, five], 40)
    assert (tuple(ids.shape), mask) == ((2, 5), None)
    ids, mask = pad([three, five], 40)
    assert mask is not None
    assert ids.tolist() == [[0, 1, 2, *[0] * 37], [0, 1, 2, 3, 4, *[0] * 35]]
    assert mask.sum(dim=1).tolist() == [3, 5]
    assert pad([three, five], 2048)[0].shape == (2, 64)


def test_texts_of_similar_length_share_a_micro_batch(folder: Path) -> None:
    head = head_for("text-classification", folder, HeadOptions())
    assert [length_bucket(length) for length in (2, 128, 129, 512, 513, 2048)] == [128, 128, 512, 512, 2048, 2048]
    assert head.bucket({"ids": (20,), "flags": (2,)}) == head.bucket({"ids": (100,), "flags": (2,)})


def test_fingerprint_has_the_length_and_every_option_that_changes_a_prediction(folder: Path) -> None:
    head = head_for("text-classification", folder, HeadOptions(top_k=9))
    assert head.unit_bytes == 80
    expected = {"transform": {"max_length": 40, "keep": "first"}, "top_k": 5, "logits": False}
    assert json.loads(json.dumps(head.fingerprint_options)) == expected


def test_checkpoint_of_another_class_or_tokenizer_is_rejected(tmp_path: Path, folder: Path) -> None:
    bare = make_checkpoint(BARE, small(BARE), tmp_path / "bare")
    with pytest.raises(CheckpointError, match="PerceiverModel; text-classification needs a PerceiverForSequence"):
        head_for("text-classification", bare, HeadOptions())
    other = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "other")
    (other / "tokenizer_config.json").write_text('{"mask_token": "<mask>"}')
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: mask_token"):
        head_for("text-classification", other, HeadOptions())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(CheckpointError, match=r"config\.json: vocab_size \(100\)"):
        head_for("text-classification", other, HeadOptions())


def test_load_task_does_not_import_torch(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(pickle.dumps(head_for("text-classification", folder, HeadOptions())))
    lines = f"import pickle, sys; head = pickle.load(open({str(tmp_path / 'head')!r}, 'rb'))\n"
    lines += "print(len(head.transform('abc')['ids']), 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["5", "False"]

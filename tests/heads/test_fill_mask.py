"""Fill-mask from a text to its row, with a small random checkpoint, against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import FillMaskPipeline, PerceiverForMaskedLM, PerceiverTokenizer

from pipeline.heads import HeadOptions, head_for
from pipeline.heads.fill_mask import mask_windows
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference.published_configs import MASKED_LM, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.stages.output_table import output_table

TEXTS = [
    "One [MASK] here.",
    "no mask",
    "[MASK][MASK] größer [MASK]",
    "",
    "[[MASK]] 🙂 [MASK] and [CLS]",
    "[MASK]" * 38,
]
LONG = "".join(f"{number} is [MASK]; " for number in range(20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with at most 40 tokens, and its tokenizer."""
    folder = make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path_factory.mktemp("model"))
    PerceiverTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> FillMaskPipeline:
    tokenizer = PerceiverTokenizer.from_pretrained(folder)
    return FillMaskPipeline(model=PerceiverForMaskedLM.from_pretrained(folder), tokenizer=tokenizer)


class Counted:
    """A model that records the shapes of the points that it decodes."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
        self.encode, self.encoder = self.model.encode, self.model.encoder
        self.points: list[tuple[int, ...]] = []

    def decode(self, latents: torch.Tensor, points: torch.Tensor) -> Any:
        self.points.append(tuple(points.shape))
        return self.model.decode(latents, points)


def predicted(
    folder: Path, texts: list[str | bytes], top_k: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[list[dict[str, Any]], list[tuple[int, ...]]]:
    """Return the rows of a micro-batch, as Parquet will have them, and the shape of the points of each decode call."""
    head = head_for("fill-mask", folder, HeadOptions(top_k=top_k))
    model = Counted(folder, dtype)
    units = [head.transform(text) for text in texts]
    with torch.inference_mode():
        inputs = head.collate({name: [unit[name] for unit in units] for name in units[0]})
        latents = head.encode(model, inputs)  # type: ignore[arg-type]
        rows = head.rows(head.decode(model, latents, inputs))  # type: ignore[arg-type]
    return output_table(rows, head.columns, len(texts)).to_pylist(), model.points


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Assert that the candidates of one mask equal those of transformers."""
    assert [each["token_id"] for each in ours] == [each["token"] for each in theirs]
    assert [each["token"] for each in ours] == [each["token_str"] for each in theirs]
    np.testing.assert_allclose([each["score"] for each in ours], [each["score"] for each in theirs], rtol=1e-4)


def test_rows_equal_those_of_transformers_pipeline(folder: Path, reference: FillMaskPipeline) -> None:
    rows, points = predicted(folder, list(TEXTS))
    assert points == [(4, 38)], "only masks are decoded"
    for text, row in zip(TEXTS, rows, strict=True):
        assert (row["text"], row["replaced"]) == (text, False)
        ids = reference.tokenizer(text)["input_ids"]
        assert [mask["position"] for mask in row["masks"]] == [at for at, token in enumerate(ids) if token == 3]
        if not row["masks"]:
            assert row["filled"] == text
            continue
        theirs = reference(text)
        for ours, their in zip(row["masks"], theirs if isinstance(theirs[0], list) else [theirs], strict=True):
            assert_same(ours["candidates"], their)
        best = iter(mask["candidates"][0]["token_id"] for mask in row["masks"])
        filled = [next(best) if token == 3 else token for token in ids[1:-1]]
        assert row["filled"] == reference.tokenizer.decode(filled)


def test_filled_text_equals_that_of_transformers_pipeline(folder: Path, reference: FillMaskPipeline) -> None:
    (row,), _ = predicted(folder, ["Only [MASK] one."])
    assert row["filled"] == reference("Only [MASK] one.")[0]["sequence"]


def test_scores_of_all_candidates_sum_to_one(folder: Path) -> None:
    (row,), _ = predicted(folder, ["a [MASK]"], top_k=1000)
    scores = [each["score"] for each in row["masks"][0]["candidates"]]
    assert len(scores) == 262
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores == sorted(scores, reverse=True)


def test_long_texts_are_read_in_windows(folder: Path) -> None:
    tokenizer, model = PerceiverTokenizer.from_pretrained(folder), PerceiverForMaskedLM.from_pretrained(folder).eval()
    (row, short), points = predicted(folder, [LONG, "a [MASK]"])
    ids = tokenizer(LONG)["input_ids"]
    begins = [*range(0, len(ids) - 2 - 38, 19), len(ids) - 2 - 38]
    assert sum(batch for batch, _ in points) == len(begins) + 1
    assert max(batch for batch, _ in points) <= 8
    assert [mask["position"] for mask in row["masks"]] == [at for at, token in enumerate(ids) if token == 3]
    for mask in row["masks"]:
        place = mask["position"] - 1
        begin = max(begins, key=lambda begin: (min(place - begin, begin + 37 - place), -begin))
        window = torch.tensor([[4, *ids[1 + begin : 39 + begin], 5]])
        with torch.no_grad():
            scores = model(inputs=window).logits[0, place - begin + 1].softmax(dim=-1)
        top = scores.topk(5)
        assert [each["token_id"] for each in mask["candidates"]] == top.indices.tolist()
        np.testing.assert_allclose([each["score"] for each in mask["candidates"]], top.values.tolist(), rtol=1e-4)
    assert row["text"] == LONG
    assert "[MASK]" not in row["filled"]
    assert len(short["masks"]) == 1


def test_texts_without_masks_are_not_decoded(folder: Path) -> None:
    rows, points = predicted(folder, ["", "none", "x" * 500])
    assert points == []
    assert [row["masks"] for row in rows] == [[], [], []]
    assert [row["filled"] for row in rows] == ["", "none", "x" * 500]


def test_invalid_unicode_is_predicted_and_flagged(folder: Path) -> None:
    rows, _ = predicted(folder, [b"\xff [MASK]", "\ufffd [MASK]"])
    assert [row["replaced"] for row in rows] == [True, False]
    assert rows[0]["text"] == rows[1]["text"] == "\ufffd [MASK]"
    assert rows[0]["masks"] == rows[1]["masks"]


def test_bfloat16_model_fills_masks(folder: Path) -> None:
    rows, _ = predicted(folder, list(TEXTS), dtype=torch.bfloat16)
    assert len(rows[0]["masks"][0]["candidates"]) == 5


def test_texts_of_similar_length_and_number_of_masks_share_a_micro_batch(folder: Path) -> None:
    head = head_for("fill-mask", folder, HeadOptions())
    buckets = [head.bucket({"ids": (n,), "masks": (m,)}) for n, m in ((10, 1), (90, 7), (90, 200), (300, 7))]
    assert buckets[0] == buckets[1]
    assert len(set(buckets)) == 3
    assert head.bucket({"ids": (10,), "masks": (0,)}) == head.bucket({"ids": (9000,), "masks": (0,)})


def test_fingerprint_has_every_option_that_changes_a_prediction(folder: Path) -> None:
    head = head_for("fill-mask", folder, HeadOptions(top_k=3))
    assert json.loads(json.dumps(head.fingerprint_options)) == {
        "transform": {"max_length": 40, "keep": "first"},
        "top_k": 3,
    }


def test_logits_and_checkpoint_of_another_class_are_rejected(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="logits are not supported for fill-mask"):
        head_for("fill-mask", folder, HeadOptions(logits=True))
    other = make_checkpoint(SEQUENCE, small(SEQUENCE), tmp_path / "other")
    with pytest.raises(CheckpointError, match="needs a PerceiverForMaskedLM"):
        head_for("fill-mask", other, HeadOptions())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 38])
@pytest.mark.parametrize("tokens", [1, 2, 37, 38, 39, 40, 57, 76, 77, 500])
def test_each_mask_is_in_the_window_with_the_longest_context_on_its_shorter_side(tokens: int, size: int) -> None:
    last = max(0, tokens - size)
    starts = [*range(0, last, max(1, size // 2)), last]
    found = mask_windows(tokens, np.arange(tokens), size)
    assert np.concatenate([window.masks for window in found]).tolist() == list(range(tokens))
    for window in found:
        assert window.begin in starts
        assert window.end == min(tokens, window.begin + size)
        for position in window.masks:
            context = [min(position - begin, begin + size - 1 - position) for begin in starts]
            assert min(position - window.begin, window.begin + size - 1 - position) == max(context)


def test_windows_without_masks_are_left_out() -> None:
    found = mask_windows(1000, np.array([3, 5, 700]), 100)
    assert [window.masks.tolist() for window in found] == [[0, 1], [2]]
    assert [(window.begin, window.end) for window in found] == [(0, 100), (650, 750)]

"""A folded model equals the unfolded one: every class, every kind of weight product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.perceiver import PerceiverIO
from pipeline.perceiver.decoders import Decoder
from pipeline.perceiver.folded_output import InputGridQueries, PositionGridQueries, ProjectedQueries
from pipeline.perceiver.folded_tail import FoldedTail, NarrowFoldedTail
from pipeline.reference import published_configs
from pipeline.reference.parity import differences, engine_predict
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import SampleInputs, sample_inputs, sample_mask

# Besides each class's default: small configurations that take the same code paths as the published shapes.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((model_class, {}) for model_class in published_configs.MODEL_CLASSES),
    (
        published_configs.MASKED_LM,
        {"num_cross_attention_heads": 2, "qk_channels": 16, "v_channels": 32, "d_model": 304},
    ),
    (published_configs.FLOW, {"d_latents": 352}),
    (published_configs.MULTIMODAL, {"d_latents": 256}),
    (published_configs.BARE, {"use_query_residual": False}),
    (published_configs.BARE, {"d_model": 80, "qk_channels": 32}),
]


def pair(tmp_path: Path, model_class: str, changes: dict[str, Any]) -> tuple[PerceiverIO, PerceiverIO, SampleInputs]:
    """Return a model, the same model folded, and inputs."""
    config = published_configs.small(model_class, **changes)
    folder = str(make_checkpoint(model_class, config, tmp_path / "checkpoint"))
    plain, folded = PerceiverIO.from_pretrained(folder, fold=False), PerceiverIO.from_pretrained(folder)
    return plain, folded, sample_inputs(config, model_class, 3, 0, padded=True)


@pytest.mark.parametrize(("model_class", "changes"), CASES)
def test_folded_outputs_equal_those_of_the_trained_layers(
    model_class: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    plain, folded, inputs = pair(tmp_path, model_class, changes)
    mask = sample_mask(inputs)
    expected = engine_predict(plain, inputs, mask)
    for row in differences(engine_predict(folded, inputs, mask), expected, "float32"):
        assert row.relative < 5e-6, row
    halved = folded.to(torch.bfloat16)
    for row in differences(engine_predict(halved, inputs, mask), expected, "bfloat16"):
        assert row.relative < 0.03, row


@pytest.mark.parametrize(
    ("model_class", "changes", "output", "queries", "tail"),
    [
        (published_configs.MASKED_LM, {"d_model": 304}, "logits", ProjectedQueries, FoldedTail),
        (published_configs.FLOW, {"d_latents": 352}, "logits", InputGridQueries, FoldedTail),
        (published_configs.FLOW, {}, "logits", InputGridQueries, NarrowFoldedTail),
        (published_configs.MULTIMODAL, {"d_latents": 256}, "image", PositionGridQueries, NarrowFoldedTail),
        (published_configs.MULTIMODAL, {}, "audio", ProjectedQueries, NarrowFoldedTail),
        (published_configs.MULTIMODAL, {}, "label", None, None),
        (published_configs.FOURIER, {}, "logits", None, None),
    ],
)
def test_folding_is_chosen_by_its_flops(
    model_class: str, changes: dict[str, Any], output: str, queries: type | None, tail: type | None
) -> None:
    model = PerceiverIO(published_configs.small(model_class, **changes), model_class)
    model.fold()
    assert isinstance(model.decoder, Decoder)
    folded = model.decoder.outputs[output].folded
    assert (folded and type(folded.queries), folded and type(folded.tail)) == (queries, tail)


@pytest.mark.parametrize(
    ("model_class", "changes"), [(published_configs.FLOW, {}), (published_configs.MULTIMODAL, {"d_latents": 256})]
)
def test_points_of_each_unit_equal_those_of_the_whole_output(
    model_class: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    plain, folded, inputs = pair(tmp_path, model_class, changes)
    latents = folded.encode(inputs)
    name = "image" if model_class == published_configs.MULTIMODAL else "logits"
    points = torch.randint(folded.outputs[name], (3, 17), generator=torch.Generator().manual_seed(1))
    asked: Any = {name: points} if model_class == published_configs.MULTIMODAL else points
    whole, some = (_rows(folded.decode(latents, at, inputs=inputs), name) for at in (None, asked))
    expected = torch.stack([whole[unit, points[unit]] for unit in range(3)])
    torch.testing.assert_close(some, expected, rtol=1e-4, atol=1e-6)
    theirs = _rows(plain.decode(latents, asked, inputs=inputs), name)
    torch.testing.assert_close(some, theirs, rtol=1e-3, atol=5e-6 * float(theirs.abs().max()))


def _rows(outputs: Any, name: str) -> Tensor:
    """Return one output as [B, P, out]."""
    found = outputs[name] if isinstance(outputs, dict) else outputs
    return found.flatten(1, -2) if found.ndim > 3 else found

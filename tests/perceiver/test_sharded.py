"""Several devices give the same outputs as one: every class, folded or not, with masks and at selected points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.perceiver.batching import even_slices
from pipeline.reference import published_configs
from pipeline.reference.parity import differences, engine_predict
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs, sample_mask

ROUNDING = 5e-6  # of an output's range


def pair(tmp_path: Path, model_class: str, devices: int, *, fold: bool = True) -> tuple[PerceiverIO, Any, Any]:
    """Return a model on one device, the same model on several, and inputs."""
    config = published_configs.small(model_class)
    folder = str(make_checkpoint(model_class, config, tmp_path / "checkpoint"))
    one = PerceiverIO.from_pretrained(folder, fold=fold)
    several = ShardedPerceiverIO.from_pretrained(folder, devices=["cpu"] * devices, fold=fold)
    return one, several, sample_inputs(config, model_class, 3, 0, padded=True)


@pytest.mark.parametrize(
    ("devices", "fold"),
    [(2, True), (7, False), *(pytest.param(*other, marks=pytest.mark.slow) for other in ((2, False), (7, True)))],
)
@pytest.mark.parametrize("model_class", published_configs.MODEL_CLASSES)
def test_outputs_equal_those_of_one_device(model_class: str, devices: int, fold: bool, tmp_path: Path) -> None:
    one, several, inputs = pair(tmp_path, model_class, devices, fold=fold)
    mask = sample_mask(inputs)
    expected = engine_predict(one, inputs, mask)
    for row in differences(engine_predict(several, inputs, mask), expected, "float32"):
        assert row.relative < ROUNDING, row


@pytest.mark.parametrize(
    ("model_class", "points"),
    [
        (published_configs.MASKED_LM, torch.tensor([[5, 0], [1, 1], [7, 2]])),
        (published_configs.FLOW, torch.tensor([3, 100, 7])),
        (published_configs.FLOW, torch.zeros(0, dtype=torch.int64)),
        (published_configs.MULTIMODAL, {"image": torch.tensor([9, 1]), "label": None}),
        (published_configs.MULTIMODAL, {"audio": torch.tensor([2])}),
    ],
)
def test_points_equal_those_of_one_device(model_class: str, points: Any, tmp_path: Path) -> None:
    one, several, inputs = pair(tmp_path, model_class, 2)
    latents = one.encode(inputs)
    expected, found = (model.decode(latents, points, inputs=inputs) for model in (one, several))
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_replicas_on_one_device_share_one_copy(tmp_path: Path) -> None:
    _, several, _ = pair(tmp_path, published_configs.FOURIER, 3)
    assert several.models == [several.first] * 3
    assert (several.device, several.dtype) == (torch.device("cpu"), torch.float32)


def test_mask_of_another_length_or_over_several_modalities_is_refused(tmp_path: Path) -> None:
    _, text, ids = pair(tmp_path / "text", published_configs.MASKED_LM, 2)
    with pytest.raises(ValueError, match=r"must be \[B, M\]"):
        text.encode(ids, torch.ones(3, ids.shape[1] + 2))
    _, several, clip = pair(tmp_path / "clip", published_configs.MULTIMODAL, 2)
    with pytest.raises(ValueError, match="several modalities"):
        several.encode(clip, torch.ones(3, 7))


def test_empty_list_of_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one device is required"):
        ShardedPerceiverIO([])


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_shares_cover_every_position_once_and_evenly(count: int) -> None:
    shares = even_slices(count, 4)
    assert [place for share in shares for place in range(count)[share]] == list(range(count))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("model_class", published_configs.MODEL_CLASSES)
def test_several_gpus_equal_one_gpu(model_class: str, tmp_path: Path) -> None:
    config = published_configs.small(model_class)
    folder = str(make_checkpoint(model_class, config, tmp_path / "checkpoint"))
    inputs = sample_inputs(config, model_class, 2, 0)
    expected = engine_predict(PerceiverIO.from_pretrained(folder, device="cuda:0"), inputs)
    several: Any = ShardedPerceiverIO.from_pretrained(folder, devices=["cuda:0", "cuda:1"])
    for row in differences(
        {name: x.cpu() for name, x in engine_predict(several, inputs).items()},
        {name: x.cpu() for name, x in expected.items()},
        "float32",
    ):
        assert row.relative < ROUNDING, row

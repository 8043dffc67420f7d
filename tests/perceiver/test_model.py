"""The model's contract apart from parity: supported calls, and clear errors for the others."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
import torch

from pipeline.perceiver import PerceiverIO
from pipeline.reference import published_configs
from pipeline.reference.random_checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = published_configs.small(published_configs.MASKED_LM)
    return make_checkpoint(published_configs.MASKED_LM, config, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> PerceiverIO:
    return PerceiverIO.from_pretrained(str(folder))


def test_no_units_and_no_points_give_empty_outputs(model: PerceiverIO) -> None:
    ids, vocabulary = torch.zeros(2, 9, dtype=torch.int64), model.config.vocab_size
    assert model(ids[:0]).shape == (0, model.config.max_position_embeddings, vocabulary)
    assert model(ids, points=torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, vocabulary)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.tensor([0, 10_000]), "point 10000 of output 'logits' must lie in 0"),
        (torch.tensor([-1, 2]), "point -1"),
        ({"image": None}, "points are given for output 'image'"),
    ],
)
def test_points_outside_the_grid_are_named(model: PerceiverIO, points: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(1, 9, dtype=torch.int64), points=points)


def test_mask_of_another_length_is_named(model: PerceiverIO) -> None:
    with pytest.raises(ValueError, match=r"mask \(1, 8\) must be \[B, M\]"):
        model(torch.zeros(1, 9, dtype=torch.int64), torch.ones(1, 8))


def test_checkpoint_that_was_overwritten_is_fetched_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCEIVER_CACHE", str(tmp_path / "cache"))
    uri, memory = "memory://models/overwritten", fsspec.filesystem("memory")
    other = make_checkpoint(
        published_configs.MASKED_LM, published_configs.small(published_configs.MASKED_LM), tmp_path / "other", seed=1
    )
    for source in (folder, other):
        memory.put(f"{source}/", "/models/overwritten/", recursive=True)
        expected = PerceiverIO.from_pretrained(str(source)).encoder.latents
        assert torch.equal(PerceiverIO.from_pretrained(uri).encoder.latents, expected)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    PerceiverIO.from_pretrained(uri)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_moved_model_drops_its_cached_tensors(model: PerceiverIO) -> None:
    """Projected queries are cached between calls, but not across dtypes."""
    ids = torch.arange(20)[None]
    full = model(ids)
    half = model.to(torch.bfloat16)(ids)
    assert half.dtype == torch.bfloat16
    assert torch.equal(model.to(torch.float32)(ids).bfloat16(), model(ids).bfloat16())
    assert float((half.float() - full).abs().max()) < 0.05 * float(full.abs().max())

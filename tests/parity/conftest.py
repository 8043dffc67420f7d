"""A random transformers model, the engine loaded from its checkpoint, and the tolerance of equality."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PerceiverConfig

from pipeline.perceiver import PerceiverIO
from pipeline.reference import transformers_model
from pipeline.reference.parity import engine_predict
from pipeline.reference.published_configs import small
from pipeline.reference.random_checkpoints import make_checkpoint


@dataclass(frozen=True, kw_only=True)
class Pair:
    config: PerceiverConfig
    folder: Path
    theirs: Any
    ours: PerceiverIO

    def assert_equal(self, inputs: Any, mask: torch.Tensor | None = None) -> None:
        """Compare latents and all outputs: rtol 1e-4, atol 1e-5 times the greatest value of transformers."""
        expected = transformers_model.predict(self.theirs, inputs, mask)
        found = engine_predict(self.ours, inputs, mask)
        assert found.keys() == expected.keys()
        for name, theirs in expected.items():
            assert_close(found[name], theirs, name)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, name: str = "output") -> None:
    if name == "flow":  # before its division by 100
        ours, theirs = ours * 100, theirs * 100
    assert theirs.isfinite().all(), f"transformers' {name} is not finite"
    atol = 1e-5 * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol, msg=lambda text: f"{name}: {text}")


@pytest.fixture
def close() -> Callable[..., None]:
    return assert_close


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Pair]:
    """`pair(model_class, **changes)`: the small configuration with these changes, in both implementations."""

    def make(model_class: str, seed: int = 0, **changes: Any) -> Pair:
        config = small(model_class, **changes)
        folder = make_checkpoint(model_class, config, tmp_path / f"{model_class}-{seed}", seed)
        ours = PerceiverIO.from_pretrained(str(folder))
        return Pair(config=config, folder=folder, theirs=transformers_model.load(folder), ours=ours)

    return make

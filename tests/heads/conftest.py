"""Checkpoints for the tests of heads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.reference.published_configs import MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests.heads.clip_heads import SHAPES


@pytest.fixture(scope="session")
def clip_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of multimodal autoencoding per shape: tiny, wide and long."""
    root = tmp_path_factory.mktemp("clip-models")
    return {name: make_checkpoint(MULTIMODAL, small(MULTIMODAL, **each), root / name) for name, each in SHAPES.items()}

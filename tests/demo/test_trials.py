"""The shipped checkpoints pass their bars on data that they were never trained on, through whole runs."""

from __future__ import annotations

import pytest

from pipeline.checkpoints.shipped import SHIPPED
from pipeline.demo.recipes import RECIPES
from pipeline.reference.parity import verify

# The others are slow tests. `test_demo.py` has a few answers of each task.
QUICK = ("fourier", "fill-mask")
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SHIPPED]


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_passes_its_bar_on_held_out_data(name: str, backend: None) -> None:
    trial = RECIPES[name].trial
    value = trial.measure(f"demo:{name}")
    assert trial.passes(value), f"{value:.2f} {trial.figure}, the bar is {trial.bar}"


@pytest.mark.parametrize("name", SHIPPED)
def test_engine_predicts_as_transformers_does(name: str) -> None:
    rows = verify(RECIPES[name].trial.task, f"demo:{name}", dtypes=("float32",), batch=2)
    assert max(row.relative for row in rows) < 1e-4

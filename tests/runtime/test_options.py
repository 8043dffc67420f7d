"""Options of a run: valid values and how they reach the head."""

import pytest
from pydantic import ValidationError

from pipeline.runtime.options import RunOptions
from pipeline.sources import SOURCES

NEEDED = {"task": "image-classification", "input": "in", "output": "out", "checkpoint": "c"}


def test_every_option_has_a_description():
    assert all(field.description for field in RunOptions.model_fields.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 2},
        {"replicas": 0},
        {"batch_size": "many"},
        {"batch_size": 0},
        {"shard_size": 0},
        {"max_quarantine": 1.5},
        {"dtype": "int8"},
        {"changed": "maybe"},
        {"limit": 0},
    ],
)
def test_wrong_values_and_unknown_names_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RunOptions(**NEEDED, **wrong)


def test_options_reach_the_head():
    head = RunOptions(**NEEDED, top_k=3, logits=True).head_options()
    assert (head.top_k, head.logits) == (3, True)


def test_importing_the_options_loads_no_ray():
    import subprocess
    import sys

    code = "import sys, pipeline.runtime, pipeline.runtime.driver.status; assert 'ray' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_lists_every_input_format() -> None:
    described = str(RunOptions.model_fields["input_format"].description)
    assert all(f" {name}" in described for name in SOURCES)

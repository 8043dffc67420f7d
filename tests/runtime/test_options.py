"""Options of a run: valid values and how they reach the head."""

import math
import re

import pytest
from pydantic import ValidationError

from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import options_of
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


NUMBERS = {
    "fps": (1e-300, 1000),
    "start": (0, 10_000_000),
    "end": (1e-300, 10_000_000),
    "max_side": (1, 1_000_000),
    "clip_stride": (1e-300, 10_000_000),
    "limit": (1, 10**12),
    "top_k": (1, 1_000_000),
    "flow_scale": (1e-300, 1_000_000),
    "replicas": (1, 10_000),
    "devices_per_replica": (1, 10_000),
    "batch_size": (1, 1_000_000),
    "shard_size": (1, 1_000_000),
    "max_quarantine": (0, 1),
    "stall_timeout": (1e-300, 10_000_000),
    "unit_seconds": (1e-300, 10_000_000),
    "unit_memory": (1e-300, 100_000),
}


HUGE = [pytest.param("9" * 5000, id="text of 5000 digits"), pytest.param(10**5000, id="number of 5000 digits")]


def test_every_number_has_a_range() -> None:
    fields = RunOptions.model_fields.items()
    numbers = {name for name, field in fields if re.search(r"\b(int|float)\b", repr(field.annotation))}
    assert numbers - {"points", "frames"} == set(NUMBERS)
    for name, ends in NUMBERS.items():
        for value in ends:
            assert getattr(options_of(**NEEDED, **{name: value}), name) == value


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e400", "1" * 20, math.inf, math.nan, *HUGE])
def test_number_out_of_its_range_is_refused_in_words(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^{name} \(.{{1,61}}\) must be .*(at|greater|number|integer)"):
        options_of(**NEEDED, **{name: value})


def test_options_reach_the_head():
    head = RunOptions(**NEEDED, top_k=3, logits=True).head_options("digest")
    assert (head.top_k, head.logits) == (3, True)


def test_importing_the_options_loads_no_ray():
    import subprocess
    import sys

    code = "import sys, pipeline.runtime, pipeline.runtime.driver.status; assert 'ray' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_lists_every_input_format() -> None:
    described = str(RunOptions.model_fields["input_format"].description)
    assert all(f" {name}" in described for name in SOURCES)

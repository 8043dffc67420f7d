"""Settings of property-based tests: few examples, always the same ones, and thousands of random ones with `-m slow`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

FEW, MANY = 60, 3000
EXAMPLES = pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


def many(examples: int) -> settings:
    """Return settings for this many examples. A failure prints how to repeat it."""
    return settings(
        max_examples=examples,
        derandomize=examples <= FEW,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

"""Fault points that tests name are in the code: else a slow test finds out after minutes that nothing is killed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_CODE = re.compile(r'(?:reached|armed)\(\s*"([\w.-]+)"')


def names_in(folder: str, pattern: re.Pattern[str]) -> set[str]:
    return {name for path in (ROOT / folder).rglob("*.py") for name in pattern.findall(path.read_text())}


def test_points_that_tests_name_are_in_the_code() -> None:
    points = names_in("pipeline", IN_CODE)
    stages = "|".join(sorted({point.partition(".")[0] for point in points}))
    named = names_in("tests", re.compile(rf'"((?:{stages})\.[a-z-]+)"')) - {"run.json"}
    assert len(points) > 20
    assert named == points

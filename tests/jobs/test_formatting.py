"""Numbers as people read them."""

import pytest

from jobs.formatting import count, duration, millis, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.44 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (15120, "4 h 12 min"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (17_512_345, "17.5 MB"), (2.5e12, "2.5 TB")],
)
def test_size(n: float, words: str) -> None:
    assert size(n) == words


def test_count_and_millis() -> None:
    assert count(1234567) == "1,234,567"
    assert millis(0.0032) == "3.2 ms"
    assert millis(1.5) == "1.5 s"

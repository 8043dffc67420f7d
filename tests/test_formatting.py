"""Counts, sizes and durations as people read them."""

import pytest

from pipeline.formatting import count, counted, did_you_mean, duration, share, size, unit_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.44 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (15120, "4 h 12 min"),
    ],
)
def test_duration_has_about_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (17_512_345, "17.5 MB"), (2.5e12, "2.5 TB"), (3.25e9, "3.25 GB")],
)
def test_size_is_in_decimal_units(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


def test_count_has_thousands_separators() -> None:
    assert count(1234567) == "1,234,567"


def test_duration_of_a_unit_is_in_milliseconds_below_a_second() -> None:
    assert unit_duration(0.0032) == "3.2 ms"
    assert unit_duration(1.5) == "1.5 s"


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(n, "part") for n in (0, 1, 2, 1234)] == ["0 parts", "1 part", "2 parts", "1,234 parts"]
    assert [size(1), size(2)] == ["1 byte", "2 bytes"]
    assert [share(1, 1, "shard"), share(2, 8, "shard")] == ["1 of 1 shard is", "2 of 8 shards are"]


def test_the_most_similar_name_is_suggested_in_any_case() -> None:
    assert did_you_mean("LABLE", ["id", "Label"]) == " (did you mean Label?)"
    assert did_you_mean("x", ["id", "label"]) == ""

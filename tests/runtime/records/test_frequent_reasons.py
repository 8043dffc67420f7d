"""Reasons in the message about too many quarantined units."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.runtime.records.frequent_reasons import describe_frequent_reasons, group_by_reason
from pipeline.sinks.parts import Footer, Quarantined, encode_part, part_key
from pipeline.storage import Store


def unit(name: str, error: str, message: str) -> Quarantined:
    return Quarantined(id=name, uri=f"s3://bucket/in/{name}", stage="load", error=error, message=message, attempts=1)


def test_messages_that_differ_in_names_numbers_and_paths_are_one_reason() -> None:
    truncated = [
        unit(f"{n}.jpg", "Unreadable", f"truncated JPEG: {n} bytes of {n + 100} are missing") for n in range(9)
    ]
    missing = [
        unit(f"a {n}", "Missing", f"no file found when reading s3://bucket/in/a {n}: Not Found") for n in range(5)
    ]
    slow = [unit(f"{n}.mp4#1.5", "Timeout", f"reading '{n} é.mp4' took more than 1{n}.5 s") for n in range(3)]
    others = [unit("b.png", "Unreadable", "not an image"), unit("c.png", "Crash", "not an image")]
    groups = group_by_reason([*others, *slow, *missing, *truncated])
    assert groups == [truncated, missing, slow, [others[0]], [others[1]]]


def test_three_reasons_are_named_with_an_example_each(tmp_path: Path) -> None:
    units = [
        *(unit(f"{n}.jpg", "Unreadable", f"truncated JPEG: {n} bytes are missing") for n in range(1500)),
        *(unit(f"{n}.png", "Unreadable", "x" * 500) for n in range(2)),
        unit("a.txt", "Empty", ""),
        unit("b.png", "Crash", "the process ended"),
    ]
    output = Store(str(tmp_path))
    footer = Footer(run="0a1b", shard=7, segment=0, plan="", rows=0, quarantined=tuple(units), seconds={})
    output.put_if_absent(part_key("0a1b", 7), encode_part(pa.table({"id": pa.array([], pa.string())}), footer))
    assert describe_frequent_reasons(output, "0a1b", [7]) == (
        f"1,500 like 0.jpg (truncated JPEG: 0 bytes are missing), 2 like 0.png ({'x' * 159}…), 1 like a.txt (Empty), "
        "1 for 1 other reason"
    )


def test_parts_that_are_gone_have_no_reasons(tmp_path: Path) -> None:
    assert describe_frequent_reasons(Store(str(tmp_path)), "run", [1, 2]) == "their reasons cannot be read"

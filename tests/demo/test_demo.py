"""`perceiver demo` asks what has a known answer, and says what came out."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from jobs import demo
from pipeline.runtime.ray_backend import connect


@pytest.fixture
def printed(
    described_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the demo prints, on 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(connect, "ray_connection", lambda _: nullcontext())
    demo.command(str(tmp_path / "demo"))
    return capsys.readouterr().out


def test_demo_says_what_was_asked_and_what_came_out(printed: str) -> None:
    found = {number: re.search(rf"digit {number}: predicted (\d), \d+ % sure", printed) for number in range(10)}
    assert sum(match is not None and match[1] == str(number) for number, match in found.items()) >= 9
    assert "damaged.png" in printed
    assert "image file is truncated" in printed
    right = {what: int(number) for number, what in re.findall(r"(\d) of 4 (texts|masked bytes) are right", printed)}
    assert right["texts"] >= 3
    assert right["masked bytes"] >= 2
    (decibels,) = re.findall(r"Frames are rebuilt at (\d+)\.\d dB on average", printed.replace("\n", " "))
    assert int(decibels) >= 18
    (pixels,) = re.findall(r"The flow is off by (\d\.\d+) pixels on average", printed.replace("\n", " "))
    assert float(pixels) <= 0.7
    for task in ("text-classification", "fill-mask", "optical-flow", "multimodal-autoencoding", "feature-extraction"):
        assert f"{task}: " in printed
    assert "image-classification/report.html" in printed.replace("\n", "")

"""The progress of a run on the console."""

import io
import sys
import time
from types import ModuleType, SimpleNamespace

from rich.console import Console

from pipeline.runtime.driver import progress
from pipeline.runtime.driver.progress import Counts, progress_shown


def test_rate_and_time_left_count_this_driver_only():
    counts = Counts(shards=10, units=1000, shards_done=4, rows=390, quarantined=10)
    counts.start()
    assert counts.seconds_left(10) is None
    counts.shards_done, counts.rows = 6, 590
    assert counts.line(10) == "6 of 10 shards, 590 rows, 10 quarantined, 20.0 units/s, 20 s left"


def test_time_left_is_estimated_by_shards_if_units_are_unknown():
    assert Counts(shards=10, units=None, shards_done=2, rows=5).seconds_left(10) == 40


def test_plain_lines_are_printed_without_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    sink = io.StringIO()
    with progress_shown(Console(file=sink, width=200), Counts(shards=3, units=30, shards_done=1, rows=10)):
        deadline = time.monotonic() + 5
        while "\n" not in sink.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sink.getvalue().startswith("1 of 3 shards, 10 rows, 0 quarantined")


def test_bar_is_shown_on_a_terminal():
    sink = io.StringIO()
    with progress_shown(
        Console(file=sink, width=200, force_terminal=True), Counts(shards=3, units=30, shards_done=3, rows=30)
    ):
        pass
    assert "3 of 3 shards, 30 rows" in sink.getvalue()


def test_notebooks_show_one_line_that_changes(monkeypatch):
    shown = []
    line = SimpleNamespace(update=lambda data, **_: shown.append(data["text/plain"]))
    notebook = ModuleType("IPython.display")
    notebook.display = lambda *_, **__: line
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    counts = Counts(shards=3, units=30, shards_done=1, rows=10)
    with progress_shown(Console(file=io.StringIO(), force_jupyter=True), counts):
        counts.shards_done, counts.rows = 3, 30
    assert shown[-1].startswith("3 of 3 shards, 30 rows, 0 quarantined")

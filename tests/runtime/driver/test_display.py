"""What a run shows: on a terminal, as plain lines, and for programs."""

import io
import json
import sys
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

from rich.console import Console

from pipeline.runtime.driver import display as display_module
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.progress import Counts

COUNTS = Counts(shards=3, units=30, shards_done=1, rows=10)
COUNTS.start()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_plain_lines_are_printed_without_a_terminal(monkeypatch) -> None:
    monkeypatch.setattr(display_module, "LINE_SECONDS", 0.02)
    sink = io.StringIO()
    shown = Display(Console(file=sink, width=20))
    with shown.phase("listing INPUT and planning"):
        shown.note("a note about [red]file[/red].png that is longer than the line")
    with shown.progress(COUNTS):
        wait_for(lambda: sink.getvalue().count("\n") > 2)
    first, note, progress, *_ = sink.getvalue().split("\n")
    assert first == "listing INPUT and planning …"
    assert note == "a note about [red]file[/red].png that is longer than the line"
    assert progress == "1 of 3 shards, 10 rows, 0 quarantined; loading the model, then the first shard"


def test_a_terminal_shows_the_phase_while_it_lasts_and_then_a_bar() -> None:
    sink = io.StringIO()
    shown = Display(Console(file=sink, width=100, force_terminal=True))
    with shown.phase("connecting to Ray"):
        wait_for(lambda: "connecting to Ray, 0 s" in sink.getvalue())
    with shown.progress(Counts(shards=3, units=30, shards_done=3, rows=30)):
        pass
    assert "3 of 3 shards, 30 rows" in sink.getvalue()
    assert "━" in sink.getvalue()


def test_programs_get_an_object_per_line(monkeypatch) -> None:
    monkeypatch.setattr(display_module, "LINE_SECONDS", 0.02)
    sink = io.StringIO()
    shown = Display(Console(file=sink, width=20), log_format="json")
    with shown.phase("connecting to Ray"):
        shown.note("a note with \u202e and \n")
    with shown.progress(COUNTS):
        wait_for(lambda: sink.getvalue().count("\n") > 2)
    events = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [event["event"] for event in events[:3]] == ["phase", "note", "progress"]
    assert events[1]["message"] == "a note with \u202e and \n"
    assert events[2]["shards_done"] == 1
    assert abs(events[0]["time"] - time.time()) < 60


def test_quiet_shows_notes_only(monkeypatch) -> None:
    monkeypatch.setattr(display_module, "LINE_SECONDS", 0.01)
    sink = io.StringIO()
    shown = Display(Console(file=sink, width=99, force_terminal=True), quiet=True)
    with shown.phase("connecting to Ray"), shown.progress(COUNTS):
        time.sleep(0.1)
        shown.note("3 files left out")
    assert sink.getvalue() == "3 files left out\n"


def test_a_notebook_shows_one_line_that_changes(monkeypatch) -> None:
    shown: list[str] = []
    line = SimpleNamespace(update=lambda data, **_: shown.append(data["text/plain"]))
    notebook = ModuleType("IPython.display")
    notebook.display = lambda *_, **__: line
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    counts = Counts(shards=3, units=30, shards_done=1, rows=10)
    shown_on = Display(Console(file=io.StringIO(), force_jupyter=True))
    with shown_on.phase("connecting to Ray"):
        pass
    with shown_on.progress(counts):
        counts.shards_done, counts.rows = 3, 30
    assert shown[0] == "connecting to Ray …"
    assert shown[-1].startswith("3 of 3 shards, 30 rows, 0 quarantined")

"""Progress of a run: a bar on a terminal, one line in a notebook that changes, else a line every few seconds."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipeline.formatting import duration
from pipeline.runtime.records.receipts import Receipt

LINE_SECONDS = 10.0


@dataclass(kw_only=True)
class Counts:
    """Counts of a run. `units`: planned units, None if only reading the inputs tells; `start_shards` and `start_units`:
    done before this driver started."""

    shards: int
    units: int | None
    shards_done: int = 0
    rows: int = 0
    quarantined: int = 0
    start_shards: int = 0
    start_units: int = 0

    @property
    def units_done(self) -> int:
        return self.rows + self.quarantined

    def add(self, receipt: Receipt) -> None:
        """Count one more shard."""
        self.shards_done += 1
        self.rows += receipt.rows
        self.quarantined += receipt.quarantined - receipt.replaced

    def start(self) -> None:
        """Take what is counted so far as done before this driver, so that rates do not include it."""
        self.start_shards, self.start_units = self.shards_done, self.units_done

    def line(self, seconds: float) -> str:
        """Return the progress line after this many seconds of work."""
        rate = (self.units_done - self.start_units) / seconds if seconds > 0 else 0.0
        line = f"{self.shards_done:,} of {self.shards:,} shards, {self.rows:,} rows, {self.quarantined:,} quarantined"
        if rate:
            line += f", {rate:,.1f} units/s"
        if (left := self.seconds_left(seconds)) is not None:
            line += f", {duration(left)} left"
        return line

    def seconds_left(self, seconds: float) -> float | None:
        """Estimate the remaining time from the rate so far, by units or else by shards; None before the first."""
        if self.units is not None:
            done, left = self.units_done - self.start_units, self.units - self.units_done
        else:
            done, left = self.shards_done - self.start_shards, self.shards - self.shards_done
        return seconds * left / done if done > 0 else None


@contextmanager
def progress_shown(console: Console, counts: Counts) -> Iterator[None]:
    """Show `counts`, which its owner updates, during the block."""
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(console, counts, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(console: Console, counts: Counts, ended: threading.Event) -> None:
    started = time.monotonic()
    if console.is_jupyter:
        _show_in_notebook(counts, ended, started)
        return
    if not console.is_terminal:
        while not ended.wait(LINE_SECONDS):
            console.print(counts.line(time.monotonic() - started), highlight=False)
        return
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console) as bar:
        task, last = bar.add_task("", total=counts.shards), False
        while not last:
            last = ended.wait(0.5)
            bar.update(task, completed=counts.shards_done, description=counts.line(time.monotonic() - started))


def _show_in_notebook(counts: Counts, ended: threading.Event, started: float) -> None:
    """Show one line below the cell and change it every second. rich's bar needs ipywidgets for that."""
    from IPython.display import display

    line, last = display({"text/plain": "starting"}, raw=True, display_id=True), False
    while not last:
        last = ended.wait(1)
        line.update({"text/plain": counts.line(time.monotonic() - started)}, raw=True)

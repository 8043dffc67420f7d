"""What a person sees of a run: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from pipeline.runtime.records.receipts import Receipt

LINE_SECONDS = 10.0


@dataclass(kw_only=True)
class Counts:
    """Where a run stands. `units` planned, None where only opening the inputs tells; `start_units` were done before."""

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
        """One shard more."""
        self.shards_done += 1
        self.rows += receipt.rows
        self.quarantined += receipt.quarantined - receipt.replaced

    def start(self) -> None:
        """What has been counted so far was done before: paces are of what comes from here on."""
        self.start_shards, self.start_units = self.shards_done, self.units_done

    def line(self, seconds: float) -> str:
        """One line after so many seconds of work."""
        rate = (self.units_done - self.start_units) / seconds if seconds > 0 else 0.0
        parts = [
            f"{self.shards_done:,} of {self.shards:,} shards",
            f"{self.rows:,} rows",
            f"{self.quarantined:,} quarantined",
        ]
        if rate:
            parts.append(f"{rate:,.1f} units/s")
        if (left := self.seconds_left(seconds)) is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self, seconds: float) -> float | None:
        """Time left at the pace so far, by units where they are known, else by shards; None before the first shard."""
        if self.units is not None:
            done, left = self.units_done - self.start_units, self.units - self.units_done
        else:
            done, left = self.shards_done - self.start_shards, self.shards - self.shards_done
        return seconds * left / done if done > 0 else None


def duration(seconds: float) -> str:
    """Seconds as a person says them: `48 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Shows `counts`, which its owner updates, for the time of a `with` block."""

    def __init__(self, console: Console, counts: Counts) -> None:
        self.console, self.counts = console, counts
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._bar = Bar(BarColumn(), TextColumn("{task.description}"), console=console) if console.is_terminal else None
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def _show(self) -> None:
        if self._bar is None:
            while not self._ended.wait(LINE_SECONDS):
                self.console.print(self.counts.line(self.seconds), highlight=False)
            return
        with self._bar as bar:
            task = bar.add_task("", total=self.counts.shards)
            while not self._ended.wait(0.5):
                bar.update(task, completed=self.counts.shards_done, description=self.counts.line(self.seconds))
            bar.update(task, completed=self.counts.shards_done, description=self.counts.line(self.seconds))

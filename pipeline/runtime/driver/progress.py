"""Progress of a run on the console: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

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
        """Estimate the remaining time from the rate so far, by units or else by shards; None before the first."""
        if self.units is not None:
            done, left = self.units_done - self.start_units, self.units - self.units_done
        else:
            done, left = self.shards_done - self.start_shards, self.shards - self.shards_done
        return seconds * left / done if done > 0 else None


class Progress:
    """Context manager that shows `counts`, which its owner updates."""

    def __init__(self, console: Console, counts: Counts) -> None:
        self.console, self.counts = console, counts
        self._started = time.monotonic()
        self._ended = threading.Event()
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

    def _line(self) -> str:
        return self.counts.line(time.monotonic() - self._started)

    def _show(self) -> None:
        if not self.console.is_terminal:
            while not self._ended.wait(LINE_SECONDS):
                self.console.print(self._line(), highlight=False)
            return
        with Bar(BarColumn(), TextColumn("{task.description}"), console=self.console) as bar:
            task, ended = bar.add_task("", total=self.counts.shards), False
            while not ended:
                ended = self._ended.wait(0.5)
                bar.update(task, completed=self.counts.shards_done, description=self._line())

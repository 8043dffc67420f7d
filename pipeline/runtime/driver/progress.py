"""Counts of a run while it works, and what they say in words."""

import time
from dataclasses import dataclass, field
from typing import Any

from pipeline.formatting import count, counted, duration
from pipeline.runtime.records.receipts import Receipt

STAGES = ("load", "predict", "write")


@dataclass(kw_only=True)
class Counts:
    """Counts of a run.

    Attributes:
        shards, units: planned; units is None if only reading the inputs tells.
        replicas: number of replicas that predict.
        rows, quarantined, shards_done: committed so far, by any driver.
        start_shards, start_units: committed before this driver started.
        stage_seconds: of the shards that this driver received, by stage.
        started_at: when this driver began to work, on the monotonic clock.
    """

    shards: int
    units: int | None
    replicas: int = 1
    shards_done: int = 0
    rows: int = 0
    quarantined: int = 0
    start_shards: int = 0
    start_units: int = 0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started_at: float = field(default_factory=time.monotonic)
    _predicting_since: float | None = None

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
        self.started_at = time.monotonic()

    def add_seconds(self, receipt: Receipt) -> None:
        """Count the seconds of a shard that this driver scheduled."""
        if self._predicting_since is None:
            self._predicting_since = time.monotonic() - receipt.seconds_predict - receipt.seconds_write
        for stage in STAGES:
            self.stage_seconds[stage] += getattr(receipt, f"seconds_{stage}")

    @property
    def replicas_busy(self) -> float | None:
        """Mean number of replicas that computed since the first shard began; None before it ends."""
        if self._predicting_since is None:
            return None
        elapsed = time.monotonic() - self._predicting_since
        return min(float(self.replicas), self.stage_seconds["predict"] / elapsed) if elapsed > 0 else None

    @property
    def stage_shares(self) -> dict[str, float]:
        """Share of each stage in the work so far; empty before the first shard ends."""
        total = sum(self.stage_seconds.values())
        return {stage: seconds / total for stage, seconds in self.stage_seconds.items()} if total else {}

    @property
    def units_per_second(self) -> float:
        """Rate of this driver."""
        seconds = time.monotonic() - self.started_at
        return (self.units_done - self.start_units) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time at the rate so far, by units or else by shards; None before the first."""
        seconds = time.monotonic() - self.started_at
        if self.units is not None:
            done, left = self.units_done - self.start_units, self.units - self.units_done
        else:
            done, left = self.shards_done - self.start_shards, self.shards - self.shards_done
        return seconds * left / done if done > 0 else None

    def line(self) -> str:
        """Return the progress in words."""
        parts = [f"{count(self.shards_done)} of {counted(self.shards, 'shard')}", counted(self.rows, "row")]
        parts.append(f"{count(self.quarantined)} quarantined")
        if rate := self.units_per_second:
            parts.append(f"{rate:,.1f} units/s")
        if left := self.seconds_left:
            parts.append(f"{duration(left)} left")
        busy = self.replicas_busy
        if busy is None:
            waiting = "; loading the model, then the first shard" if self.shards_done < self.shards else ""
            return ", ".join(parts) + waiting
        shares = ", ".join(f"{stage} {share:.0%}" for stage, share in self.stage_shares.items())
        return f"{', '.join(parts)}; {busy:.1f} of {counted(self.replicas, 'replica')} busy; {shares}"

    def as_json(self) -> dict[str, Any]:
        """Return the counts for a log that programs read."""
        names = ("shards", "units", "shards_done", "rows", "quarantined", "replicas")
        values = {name: getattr(self, name) for name in names}
        rate, left, busy = self.units_per_second, self.seconds_left, self.replicas_busy
        return values | {
            "units_per_second": round(rate, 3),
            "seconds_left": None if left is None else round(left, 1),
            "replicas_busy": None if busy is None else round(busy, 2),
            "stage_shares": {stage: round(share, 3) for stage, share in self.stage_shares.items()},
        }

"""The driver of a run: schedules planned minus committed, hears of what is committed, and says when to stop."""

from __future__ import annotations

import time
from contextlib import closing

from rich.console import Console

from pipeline.runtime.dataset import receipts
from pipeline.runtime.errors import RunFailed, TooMuchQuarantined, reason
from pipeline.runtime.options import RunOptions
from pipeline.runtime.prepare import Prepared, prepared
from pipeline.runtime.progress import Counts, Progress
from pipeline.runtime.receipts import Ledger, Receipt
from pipeline.runtime.resume import committed, heard_of, recover
from pipeline.runtime.summary import Summary, put_manifest

PASSES = 3  # what was lost to a crash is run again; shards apart, for one of them may have been the cause
RESUME = "the same command resumes the run"


def execute(options: RunOptions, *, console: Console | None = None) -> Summary:
    """Run to the end: every planned shard committed, every unit a row or in quarantine.

    Raises UsageError, AccessError or CheckpointError before any work; RunFailed where shards are left, and the same
    call resumes; TooMuchQuarantined where more than `max_quarantine` of the units cannot be predicted.
    """
    started = time.monotonic()
    with prepared(options) as ready:
        driver = Driver(ready, console or Console(stderr=True))
        driver.resume()
        driver.work()
        return driver.finish(time.monotonic() - started)


class Driver:
    """One driver of a run; others may be at work on the same plan."""

    def __init__(self, ready: Prepared, console: Console) -> None:
        self.ready, self.plan, self.console = ready, ready.plan, console
        self.ledger = Ledger(output=ready.output)
        self.counts = Counts(shards=ready.plan.shards, units=ready.plan.units)

    @property
    def left(self) -> int:
        """Shards that are planned and of which no part is known."""
        return self.plan.shards - len(self.ledger.by_shard)

    def resume(self) -> None:
        """Count what is committed already."""
        self.ledger.by_shard.update(heard_of(self.ready.output, committed(self.ready.output, self.ready.run.run)))
        for receipt in self.ledger.by_shard.values():
            self.counts.add(receipt)
        self._catch_up()
        self.counts.start()
        if self.counts.start_shards:
            self._say(f"resuming: {self.counts.start_shards:,} of {self.plan.shards:,} shards done")
        if self.plan.changed:
            self._say(f"{self.plan.changed:,} inputs changed since they were planned; their predictions are left")

    def work(self) -> None:
        """Passes over planned minus committed, until nothing is left or the passes are used up."""
        self._check_quarantine()
        with Progress(self.console, self.counts):
            for number in range(PASSES):
                if self.left == 0:
                    return
                self._pass(apart=number > 0)
                self._catch_up()

    def finish(self, seconds: float) -> Summary:
        """Check that every shard and every unit is accounted for, and write the manifest."""
        if self.left:
            raise RunFailed(f"{self._what_is_left()} after {PASSES} passes; {RESUME}")
        counts, planned = self.counts, self.plan.units
        if planned is None:
            self._check_quarantine(of=counts.units_done)
        elif planned != counts.units_done:
            raise RunFailed(
                f"{planned:,} units were planned, but {counts.rows:,} rows and {counts.quarantined:,} quarantined ones "
                f"are committed in {self.ready.output.uri}: something else has changed its parts"
            )
        heard = self.ledger.by_shard.values()
        summary = Summary.of(self.ready.run, self.ready.output, self.plan, counts, heard, seconds)
        put_manifest(self.ready.output, summary, heard)
        return summary

    def _pass(self, *, apart: bool) -> None:
        """One Dataset over what is left. What was heard is written down whatever ends it."""
        stages, files, done = self.ready.stages, self.plan.files, set(self.ledger.by_shard)
        try:
            with closing(receipts(stages, files, done, apart=apart)) as stream:
                for receipt in stream:
                    self._hear(receipt, scheduled=True)
        except (RunFailed, TooMuchQuarantined):
            raise
        except Exception as error:
            raise RunFailed(f"{reason(error)}; {self._what_is_left()}; {RESUME}") from error
        finally:
            self.ledger.flush()

    def _hear(self, receipt: Receipt, *, scheduled: bool) -> None:
        if receipt.fatal:
            raise RunFailed(f"{receipt.fatal}; {self._what_is_left()}; {RESUME}")
        if receipt.shard not in self.ledger.by_shard:
            self.counts.add(receipt)
        self.ledger.add(receipt, scheduled=scheduled)
        self._check_quarantine()

    def _catch_up(self) -> None:
        """Hear of the parts that are there and that no driver wrote down, from their footers."""
        output, run = self.ready.output, self.ready.run.run
        for receipt in recover(output, run, committed(output, run) - self.ledger.by_shard.keys()):
            self.counts.add(receipt)
            self.ledger.add(receipt, scheduled=False)
        self.ledger.flush()

    def _check_quarantine(self, of: int | None = None) -> None:
        """Stop as soon as too many of the planned units are quarantined; where those are not known, at the end."""
        units = of if of is not None else self.plan.units
        share = self.ready.options.max_quarantine
        if units is not None and self.counts.quarantined > share * units:
            raise TooMuchQuarantined(
                f"{self.counts.quarantined:,} of {units:,} units are quarantined, more than max_quarantine ({share:g}) "
                f"allows: see {self.ready.output.uri_of('quarantine')}. The same command with a higher value goes on"
            )

    def _what_is_left(self) -> str:
        return f"{self.left:,} of {self.plan.shards:,} shards are left"

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

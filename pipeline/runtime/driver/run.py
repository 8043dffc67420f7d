"""The driver of a run: schedules planned minus committed, hears of what is committed, and says when to stop."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console

from pipeline.runtime.driver.prepare import PreparedRun, prepare_run
from pipeline.runtime.driver.progress import Counts, Progress
from pipeline.runtime.driver.signals import Stopped, stop_on_signals
from pipeline.runtime.errors import RunFailed, Stalled, TooManyCrashes, TooMuchQuarantined, UsageError, reason
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.dataset import MAX_LOST_SHARDS, PassMode, run_shards
from pipeline.runtime.records.committed import (
    ListedParts,
    foreign_parts_message,
    list_parts,
    receipts_from_footers,
    recorded_receipts,
)
from pipeline.runtime.records.crash_counts import read_crash_counts, record_crashes
from pipeline.runtime.records.manifest import Summary, put_manifest
from pipeline.runtime.records.receipts import Ledger, Receipt
from pipeline.storage import AccessError, StorageError

PASSES = (PassMode.NORMAL, PassMode.ISOLATED, PassMode.ISOLATED, PassMode.QUARANTINE_ALL)
"""What a pass lost, as its processes died, the next one runs again. A shard that earlier drivers lost starts there."""
GIVE_UP_MOST = MAX_LOST_SHARDS // 8
RESUME = "the same command resumes the run"


def execute(options: RunOptions, *, console: Console | None = None, leave: bool = False) -> Summary:
    """Run to the end: every planned shard committed, every unit a row or in quarantine.

    Raises UsageError, AccessError or CheckpointError before any work; RunFailed where shards are left, and the same
    call resumes; TooMuchQuarantined where more than `max_quarantine` of the units cannot be predicted. SIGTERM and
    SIGINT raise Stopped, and the same call resumes; `leave` says that the process shall then end in any case.
    """
    started = time.monotonic()
    with stop_on_signals(leave=leave), prepare_run(options) as ready:
        driver = Driver(ready, console or Console(stderr=True))
        driver.resume()
        try:
            driver.work()
            return driver.finish(time.monotonic() - started)
        except AccessError as error:  # OUTPUT was deleted, or may no longer be read: work was done by then
            raise RunFailed(f"{error}; {driver.what_is_left}; {RESUME}") from error


class Driver:
    """One driver of a run; others may be at work on the same plan."""

    def __init__(self, ready: PreparedRun, console: Console) -> None:
        self.ready, self.plan, self.console = ready, ready.plan, console
        self.ledger = Ledger(output=ready.output)
        self.counts = Counts(shards=ready.plan.shards, units=ready.plan.units)
        self.lost: Counter[int] = Counter()  # passes, of any driver, that each shard was lost in

    @property
    def left(self) -> int:
        """Shards that are planned and of which no part is known."""
        return self.plan.shards - len(self.ledger.by_shard)

    def resume(self) -> None:
        """Count what is committed already. UsageError where parts of another run lie among this one's."""
        output, run = self.ready.output, self.ready.run.run
        there = list_parts(output, run)
        if there.foreign:
            raise UsageError(foreign_parts_message(output, there.foreign))
        self.ledger.by_shard.update(recorded_receipts(output, run, there.shards))
        for receipt in self.ledger.by_shard.values():
            self.counts.add(receipt)
        self._catch_up(there)
        self.lost = read_crash_counts(self.ready.output, self.ready.run.run)
        self.counts.start()
        if self.counts.start_shards:
            self._say(f"resuming: {self.counts.start_shards:,} of {self.plan.shards:,} shards done")
        if self.plan.changed:
            self._say(f"{self.plan.changed:,} inputs changed since they were planned; their predictions are left")

    def work(self) -> None:
        """Passes over planned minus committed, until nothing is left or the passes are used up."""
        self._check_quarantine()
        with Progress(self.console, self.counts):
            for number, mode in enumerate(PASSES):
                if shards := self._shards_of(number):
                    self._say_mode(mode, len(shards))
                    if self._pass(mode, shards):
                        self._catch_up()
                        self._note_lost(shards - self.ledger.by_shard.keys())

    def _shards_of(self, number: int) -> set[int]:
        """What is left, but for shards that have been lost more often than those of this pass: a later one is theirs.

        None where giving up would give up a cluster's faults: more shards than a pass may lose.
        """
        left = {shard for shard in range(self.plan.shards) if shard not in self.ledger.by_shard}
        due = {shard for shard in left if self.lost[shard] <= number}
        return set() if PASSES[number] is PassMode.QUARANTINE_ALL and len(due) > GIVE_UP_MOST else due

    def _note_lost(self, shards: set[int]) -> None:
        self.lost.update(shards)
        if shards:
            record_crashes(self.ready.output, self.ready.run.run, shards)

    def finish(self, seconds: float) -> Summary:
        """Check that every shard and every unit is accounted for, and write the manifest."""
        if self.left:
            raise RunFailed(f"{self.what_is_left}: their processes died in {len(PASSES) - 1} passes; {RESUME}")
        counts, planned = self.counts, self.plan.units
        if planned is None:
            self._check_quarantine(of=counts.units_done)
        elif planned != counts.units_done:
            raise RunFailed(
                f"{planned:,} units were planned, but {counts.rows:,} rows and {counts.quarantined:,} quarantined ones "
                f"are committed in {self.ready.output.uri}: something else has changed its parts"
            )
        if foreign := list_parts(self.ready.output, self.ready.run.run).foreign:
            raise RunFailed(f"{foreign_parts_message(self.ready.output, foreign)}; then {RESUME}")
        heard = self.ledger.by_shard.values()
        summary = Summary.of(self.ready.run, self.ready.output, self.plan, counts, heard, seconds)
        put_manifest(self.ready.output, summary, heard)
        return summary

    def _pass(self, mode: PassMode, shards: set[int]) -> bool:
        """One Dataset over these shards. What was heard is written down whatever ends it.

        False where it ended because too many processes died: nobody knows then which shards would have been lost.
        """
        others = set(range(self.plan.shards)) - shards
        stream = run_shards(self.ready.stages, self.plan.files, others, mode)
        try:
            for receipt in stream:
                self._hear(receipt, scheduled=True)
        except (RunFailed, TooMuchQuarantined):
            raise
        except Stopped as error:
            self.ledger.flush()  # first: what follows may take longer than whoever stops the run waits
            raise Stopped(f"{error}; {self.what_is_left}") from None
        except Stalled as error:
            raise RunFailed(f"{error}; {self.what_is_left}; {RESUME}") from error
        except TooManyCrashes as error:
            self._say(f"too many processes died: {error}")
            return False
        except Exception as error:
            raise RunFailed(f"{reason(error)}; {self.what_is_left}; {RESUME}") from error
        finally:
            try:
                self._write_down()
            finally:
                stream.close()  # in any case: what ends after its connection to Ray starts a cluster, and hangs
        return True

    def _write_down(self) -> None:
        """What was heard; RunFailed where OUTPUT is full, for example."""
        try:
            self.ledger.flush()
        except StorageError as error:
            raise RunFailed(f"{error}; {self.what_is_left}; {RESUME}") from error

    def _hear(self, receipt: Receipt, *, scheduled: bool) -> None:
        if receipt.fatal:
            raise RunFailed(f"{receipt.fatal}; {self.what_is_left}; {RESUME}")
        if receipt.shard not in self.ledger.by_shard:
            self.counts.add(receipt)
        self.ledger.add(receipt, scheduled=scheduled)
        self._check_quarantine()

    def _catch_up(self, there: ListedParts | None = None) -> None:
        """Hear of the parts that are there and that no driver wrote down, from their footers."""
        output, run = self.ready.output, self.ready.run.run
        found = there or list_parts(output, run)
        for receipt in receipts_from_footers(output, run, found.shards - self.ledger.by_shard.keys()):
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

    @property
    def what_is_left(self) -> str:
        return f"{self.left:,} of {self.plan.shards:,} shards are left"

    def _say_mode(self, mode: PassMode, shards: int) -> None:
        if mode is PassMode.ISOLATED:
            self._say(f"{shards:,} shards did not come out: once more, apart from one another, to find what ends them")
        if mode is PassMode.QUARANTINE_ALL:
            self._say(f"{shards:,} shards end their processes each time: their units are quarantined")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

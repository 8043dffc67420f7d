"""The driver of a run: schedule the shards that are planned and not committed, count their receipts, finish or fail."""

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

from rich.console import Console

from pipeline.checkpoints import CheckpointChanged
from pipeline.formatting import count, counted, first_of, share
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.output_state import OutputState
from pipeline.runtime.driver.prepare import PreparedRun, prepare_run
from pipeline.runtime.driver.progress import Counts
from pipeline.runtime.driver.quarantine_parts import list_quarantine, update_quarantine, wrong_quarantine
from pipeline.runtime.errors import (
    DeviceNotUsable,
    RunFailed,
    Stalled,
    TooManyCrashes,
    TooMuchQuarantined,
    UsageError,
    reason,
    reported_by_worker,
)
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.passes import MAX_LOST_SHARDS, PassMode
from pipeline.runtime.records.committed import CheckedParts, check_parts, list_parts, wrong_parts_message
from pipeline.runtime.records.crash_counts import read_crash_counts, record_crashes
from pipeline.runtime.records.frequent_reasons import describe_frequent_reasons
from pipeline.runtime.records.listing import left_out_lines
from pipeline.runtime.records.manifest import Summary, put_manifest
from pipeline.runtime.records.receipts import Ledger, Receipt
from pipeline.runtime.signals import Stopped, stop_on_signals
from pipeline.sinks.parts import part_key
from pipeline.storage import AccessError, StorageError

PASSES = (PassMode.NORMAL, PassMode.ISOLATED, PassMode.ISOLATED, PassMode.QUARANTINE_ALL)
"""Modes of the passes. Each pass runs the shards that crashed their worker in the pass before it. A shard that crashed
in passes of earlier drivers starts in the pass of that number."""
PROBLEMS = {
    PassMode.ISOLATED: "crashed a worker; retrying one at a time to isolate the cause",
    PassMode.QUARANTINE_ALL: "crashed a worker in every retry; quarantining the units",
}
MAX_QUARANTINED_SHARDS = MAX_LOST_SHARDS // 8
RESUME = "the same command resumes the run"
REPAIR = "The same command with --repair moves such files to _run/set-aside/ and predicts their shards again"


def execute(options: RunOptions, *, console: Console | None = None) -> Summary:
    """Run until every planned shard is committed, and every unit is a row or in quarantine.

    Raises UsageError, AccessError or CheckpointError before any work; RunFailed if shards are left; TooMuchQuarantined
    if more than `max_quarantine` of the units cannot be predicted; Stopped on SIGTERM and SIGINT. The same call resumes
    the run.
    """
    started = time.monotonic()
    display = Display.of(options, console)
    with stop_on_signals(), prepare_run(options, display) as ready:
        driver = Driver(ready, display)
        driver.resume()
        try:
            driver.work()
            return driver.finish(time.monotonic() - started)
        except AccessError as error:  # OUTPUT was deleted or became unreadable, after work was done
            raise driver.failure(error) from error


class Driver:
    """One driver of a run; other drivers may work on the same plan at the same time."""

    def __init__(self, ready: PreparedRun, display: Display) -> None:
        self.ready, self.plan, self.display = ready, ready.plan, display
        self.output, self.run = ready.output, ready.run.run
        self.ledger = Ledger(output=ready.output)
        self.counts = Counts(shards=ready.plan.shards, units=ready.plan.units)
        self.crashes: Counter[int] = Counter()  # passes of any driver in which a shard crashed its worker, by shard

    @property
    def remaining(self) -> str:
        """The number of remaining shards, for messages."""
        return f"{share(self.plan.shards - len(self.ledger.by_shard), self.plan.shards, 'shard')} left"

    def failure(self, cause: object) -> RunFailed:
        """Return the error of a run that can be resumed."""
        return RunFailed(f"{cause}; {self.remaining}; {RESUME}")

    def resume(self) -> None:
        """Count what is committed already. Raises UsageError if OUTPUT contains files that are no parts of the run."""
        state = self.ready.state
        parts = self._check_parts(state)
        if parts.wrong:
            raise UsageError(f"{wrong_parts_message(self.output, parts.wrong)}. {REPAIR}")
        self.ledger.by_shard.update(parts.receipts)
        for receipt in parts.receipts.values():
            self.counts.add(receipt)
        self._record(parts.unrecorded)
        self._update_quarantine(state.quarantine)
        self.crashes = read_crash_counts(self.output, self.run)
        self.counts.start()
        for note in self.ready.notes:
            self.display.note(note)
        if lost := state.receipts.keys() - parts.receipts.keys():
            parts_are = f"{counted(len(lost), 'part')} {'is' if len(lost) == 1 else 'are'}"
            self.display.note(f"{parts_are} gone from predictions/ since the last run: predicting again")
        if self.counts.start_shards:
            done = f"{count(self.counts.start_shards)} of {counted(self.plan.shards, 'shard')}"
            self.display.note(f"resuming: {done} done")
        if self.plan.changed:
            changed = f"{counted(self.plan.changed, 'input')} changed since the plan was made"
            self.display.note(f"{changed}; the predictions are kept (--changed redo predicts changed inputs again)")
        for line in left_out_lines(self.output, self.ready.listed):
            self.display.note(line)

    def work(self) -> None:
        """Run passes over the remaining shards until none is left or no pass is left."""
        self._check_quarantine(self.plan.units)
        if len(self.ledger.by_shard) < self.plan.shards:
            self.counts.replicas = self.ready.stages().resources.replicas  # connects to the cluster
            self.counts.start()
        with self.display.progress(self.counts):
            for number, mode in enumerate(PASSES):
                if shards := self._shards_of_pass(number):
                    if mode in PROBLEMS:
                        self.display.note(f"{counted(len(shards), 'shard')} {PROBLEMS[mode]}")
                    self._run_pass(mode, shards)

    def _shards_of_pass(self, number: int) -> set[int]:
        """Return the remaining shards but those that crashed more often than this pass is for.

        The last pass quarantines nothing if so many shards crashed that the cluster is the likely cause.
        """
        remaining = set(range(self.plan.shards)) - self.ledger.by_shard.keys()
        shards = {shard for shard in remaining if self.crashes[shard] <= number}
        is_last = PASSES[number] is PassMode.QUARANTINE_ALL
        return set() if is_last and len(shards) > MAX_QUARANTINED_SHARDS else shards

    def _run_pass(self, mode: PassMode, shards: set[int]) -> None:
        """Run one pass over these shards and record which of them crashed; receipts are stored however it ends."""
        stream = self._run_shards(shards, mode)
        with closing(stream):  # always: a stream that outlives the connection to Ray starts a cluster, and hangs
            try:
                for receipt in stream:
                    self._add(receipt)
            except (RunFailed, TooMuchQuarantined):
                raise
            except DeviceNotUsable as error:
                if len(self.ledger.by_shard) > self.counts.start_shards:  # it could be used before
                    raise self.failure(error) from None
                raise
            except CheckpointChanged as error:
                raise CheckpointChanged(f"{error}; {self.remaining}; with the planned checkpoint, {RESUME}") from None
            except Stopped as error:
                self.ledger.flush()  # at once: ending the stream may take longer than the sender of the signal waits
                raise Stopped(f"{error}; {self.remaining}") from None
            except Stalled as error:
                raise self.failure(error) from error
            except TooManyCrashes as error:  # it is unknown which shards caused them, so none is recorded
                self.display.note(f"too many workers crashed: {error}")
                return
            except Exception as error:
                raise self.failure(reason(error)) from error
            finally:
                try:
                    self.ledger.flush()
                except StorageError as error:
                    raise self.failure(error) from error
        if len(self.ledger.by_shard) < self.plan.shards:  # else there is none, and `finish` lists OUTPUT
            self._add_unrecorded()
        if crashed := shards - self.ledger.by_shard.keys():
            self.crashes.update(crashed)
            record_crashes(self.output, self.run, crashed)

    def _run_shards(self, shards: set[int], mode: PassMode) -> Generator[Receipt]:
        """Run these shards on the cluster."""
        from pipeline.runtime.ray_backend.dataset import run_shards  # with ray, which takes a second to import

        return run_shards(self.ready.stages(), self.plan.files, set(range(self.plan.shards)) - shards, mode)

    def finish(self, seconds: float) -> Summary:
        """Check that every shard and unit is accounted for, and write the manifest."""
        if len(self.ledger.by_shard) < self.plan.shards:
            problem = f"their workers crashed in {len(PASSES) - 1} passes; the cluster is the likely cause"
            raise RunFailed(f"{self.remaining}: {problem}; {RESUME}")
        self._check_output()
        counts, planned = self.counts, self.plan.units
        if planned is None:
            self._check_quarantine(counts.units_done)
        elif planned != counts.units_done:
            raise RunFailed(
                f"the plan has {counted(planned, 'unit')}, but {self.output.uri} has {counted(counts.rows, 'row')} and "
                f"{counted(counts.quarantined, 'quarantined unit')}: another program changed parts. Delete them; then "
                f"{RESUME}"
            )
        receipts = self.ledger.by_shard.values()
        summary = Summary(
            run=self.run,
            output=self.output.uri,
            segments=len(self.plan.segments),
            shards=self.plan.shards,
            units=counts.units_done,
            rows=counts.rows,
            quarantined=counts.quarantined,
            bytes=sum(receipt.bytes for receipt in receipts),
            changed=self.plan.changed,
            listed=self.ready.listed,
            resumed=counts.start_shards,
            seconds=seconds,
        )
        put_manifest(self.output, summary, receipts)
        return summary

    def _add(self, receipt: Receipt) -> None:
        """Count a shard that this driver scheduled."""
        if receipt.fatal:
            raise reported_by_worker(receipt.fatal) or self.failure(receipt.fatal)
        if receipt.shard not in self.ledger.by_shard:
            self.counts.add(receipt)
            self.counts.add_seconds(receipt)
        self.ledger.add(receipt, scheduled=True)
        self._check_quarantine(self.plan.units)

    def _add_unrecorded(self) -> None:
        """Count the committed parts whose receipts were lost, by their footers."""
        parts = self._check_parts(self._current_state())
        new = [receipt for receipt in parts.unrecorded if receipt.shard not in self.ledger.by_shard]
        for receipt in new:
            self.counts.add(receipt)
        self._record(new)

    def _check_output(self) -> None:
        """Hold predictions/ and quarantine/ against the plan and the receipts. Raises RunFailed if they differ."""
        state = self._current_state()
        parts = self._check_parts(state)
        if parts.wrong:
            raise RunFailed(f"{wrong_parts_message(self.output, parts.wrong)}. {REPAIR}")
        if lost := sorted(self.ledger.by_shard.keys() - parts.receipts.keys()):
            keys = [part_key(self.run, shard) for shard in lost]
            raise RunFailed(
                f"{counted(len(lost), 'part')} of {self.output.uri} deleted while the run worked ({first_of(keys)}); "
                f"{RESUME}"
            )
        self._record(parts.unrecorded)
        self._update_quarantine(state.quarantine)

    def _current_state(self) -> OutputState:
        """Return what OUTPUT holds now, with the receipts that this driver knows."""
        quarantine, receipts = list_quarantine(self.output), self.ledger.by_shard
        return OutputState(quarantine, receipts, list_parts(self.output, self.run, receipts))

    def _check_parts(self, state: OutputState) -> CheckedParts:
        """Hold the files in predictions/ and quarantine/ against their receipts and the plan."""
        parts = check_parts(self.output, self.run, state.parts, state.receipts, self.plan.part_digests())
        parts.wrong.update(wrong_quarantine(self.output, self.run, state.quarantine, self.plan.shards))
        return parts

    def _update_quarantine(self, listed: Mapping[str, str]) -> None:
        """Make quarantine/ agree with the parts."""
        receipts, segments = self.ledger.by_shard, self.plan.segments
        self._record(update_quarantine(self.output, self.ready.run, segments, listed, receipts))

    def _record(self, receipts: Sequence[Receipt]) -> None:
        """Store receipts that were read from OUTPUT, for the next resume."""
        for receipt in receipts:
            self.ledger.add(receipt, scheduled=False)
        self.ledger.flush()

    def _check_quarantine(self, units: int | None) -> None:
        """Raise TooMuchQuarantined if more than `max_quarantine` of these units are quarantined, None if unknown."""
        allowed = self.ready.options.max_quarantine
        if units is not None and self.counts.quarantined > allowed * units:
            shards = [receipt.shard for receipt in self.ledger.by_shard.values() if receipt.quarantined]
            raise TooMuchQuarantined(
                f"{share(self.counts.quarantined, units, 'unit')} quarantined, more than max_quarantine "
                f"({allowed:g}) allows: {describe_frequent_reasons(self.output, self.run, shards)}; see "
                f"{self.output.uri_of('quarantine')}. The same command with a higher value resumes the run"
            )

"""The claim of an OUTPUT: the run that its run.json names, and the drivers that are at work on it.

A driver writes a marker while it works. Without a part and without a marker of its run, run.json gives way to that of
another run: a command that was refused, or a plan that nobody carried out, does not block OUTPUT.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pipeline.faultpoints import reached
from pipeline.runtime.errors import UsageError
from pipeline.runtime.records.committed import foreign_parts_message, list_parts
from pipeline.runtime.records.drivers import DRIVERS, put_marker, read_markers
from pipeline.runtime.records.run_file import Run, differences, find_run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.storage import AccessError, StorageError, Store

REPAIR_LOST = f"or, if they are of this command and {RUN_FILE} was lost, give it with --repair"
LOOKED_UP = range(64)
"""The first shards, which are predicted first. Their parts are looked up before a plan is discarded, though no listing
has them: it may be of an earlier time."""


@dataclass(kw_only=True)
class Claim:
    """OUTPUT as one driver claims it.

    wanted: the run of the driver's command. discard_plan: deletes the plan of a run that gives way. run: the run to
    which OUTPUT belongs, None until it is claimed. notes: says which run gave way, if any, for the user.
    """

    output: Store
    wanted: Run
    discard_plan: Callable[[Store], None]
    run: Run | None = None
    notes: tuple[str, ...] = ()
    _marker: str = field(default_factory=lambda: f"{DRIVERS}{uuid.uuid4().hex}.json")

    def check(self) -> bool:
        """Return whether OUTPUT has a plan of this run. UsageError if it has, or will have, parts of another run."""
        self._mark(self.wanted.run)
        found = find_run(self.output)
        if found is None:
            if foreign := list_parts(self.output, "").foreign:
                raise UsageError(f"{foreign_parts_message(self.output, foreign)}; {REPAIR_LOST}")
        elif self._adopt(found):
            return True
        elif differences(found, self.wanted) is not None:
            self._check_unused(found)
        return False

    def take(self) -> Run:
        """Write run.json, or adopt the one of another driver with the same command; return the run of OUTPUT."""
        while self.run is None:
            reached("run.before")
            created = self.output.put_if_absent(RUN_FILE, self.wanted.to_json())
            reached("run.claimed")
            found = self.wanted if created else find_run(self.output)
            if created:
                self.run = self.wanted
            elif found is not None and differences(found, self.wanted) is not None:
                self._replace(found)
            elif found is not None:
                self._adopt(found)
        return self.run

    def release(self) -> None:
        """Delete the marker. If OUTPUT was not claimed, nothing of this driver remains in it."""
        with suppress(AccessError, StorageError):  # the error that ended the driver is the one to report
            self.output.delete(self._marker)
            if self.run is None:
                self.output.remove_empty_folders()

    def _adopt(self, found: Run) -> bool:
        """Adopt a run of the same INPUT and settings; return False if it is another, or gave way meanwhile."""
        if differences(found, self.wanted) is not None:
            return False
        self._marker_of(found.run)  # raises DamagedRecord if a driver of another version works on the run
        self._mark(found.run)
        now = find_run(self.output)  # after the marker, which a driver with other settings looks for
        self.run = found if now is not None and now.run == found.run else None
        return self.run is not None

    def _replace(self, found: Run) -> None:
        """Write run.json in place of that of a run without parts and drivers, whose plan is deleted first."""
        self._check_unused(found)
        self.discard_plan(self.output)
        self.output.put(RUN_FILE, self.wanted.to_json())
        try:
            self._check_unused(found)  # a driver of that run may have begun meanwhile
        except UsageError:
            self.output.put(RUN_FILE, found.to_json())
            raise
        self.run = self.wanted
        self.notes = (f"replaced a plan without predictions, of {differences(found, self.wanted)}",)

    def _check_unused(self, found: Run) -> None:
        """Raise UsageError if OUTPUT has parts, or if a driver works on the run that it belongs to."""
        parts, differing = list_parts(self.output, found.run, LOOKED_UP), differences(found, self.wanted)
        if parts.shards:
            raise UsageError(other_settings_message(self.output, found, self.wanted))
        if parts.foreign:
            raise UsageError(foreign_parts_message(self.output, parts.foreign))
        if marker := self._marker_of(found.run):
            raise UsageError(
                f"{self.output.uri} is in use for {differing}. Give this run another OUTPUT; or, if that run was "
                f"killed, delete {self.output.uri_of(marker)}"
            )

    def _mark(self, run: str) -> None:
        put_marker(self.output, self._marker, run)

    def _marker_of(self, run: str) -> str | None:
        """Return the key of the marker of another driver that works on the run, None if there is none."""
        return next((key for key, _ in read_markers(self.output, run) if key != self._marker), None)


def other_settings_message(output: Store, found: Run, wanted: Run) -> str:
    """Return the error message about an OUTPUT with predictions of a run with other settings."""
    return (
        f"{output.uri} contains predictions of {differences(found, wanted)}. Use the same INPUT and settings, or give "
        "this run another OUTPUT"
    )


@contextmanager
def claiming(output: Store, wanted: Run, discard_plan: Callable[[Store], None]) -> Iterator[Claim]:
    """Yield the claim of an OUTPUT, to be taken once its plan is made; mark OUTPUT as in use during the block."""
    claim = Claim(output=output, wanted=wanted, discard_plan=discard_plan)
    try:
        yield claim
    finally:
        claim.release()

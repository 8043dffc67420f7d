"""New inputs: INPUT is listed and held against the plan, up to the first entry that has to be planned."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.unit_limit import PartlyPlanned, partly_planned
from pipeline.runtime.plan.unplanned_inputs import unplanned_entries
from pipeline.sources.listing.discovery import Listing
from pipeline.storage import Entry, Store


@dataclass(frozen=True, kw_only=True)
class NewInputs:
    """Inputs that the plan lacks.

    Attributes:
        plan: that they will be added to.
        listing: which has counted what comes before the first of them.
        entries: a stream of them, to be read once; None if there are none.
        partly: inputs among them of which the plan has the first units, by key.
        remaining: units that the limit allows, None without a limit.
    """

    plan: Plan
    listing: Listing
    entries: Iterator[Entry] | None
    partly: Mapping[str, PartlyPlanned]
    remaining: int | None


def find_new_inputs(
    output: Store, plan: Plan, discover: Callable[[], Listing], limit: int | None, *, redo: bool
) -> NewInputs:
    """List INPUT up to the first input that the plan lacks. Without one, the listing is complete and counted.

    limit: on the units of the whole plan. redo: a changed input is new.
    """
    plan.changed, plan.listing = 0, (found := discover())
    remaining = None if limit is None else limit - plan.estimated_units
    is_full = remaining is not None and remaining <= 0
    partly = {} if is_full else partly_planned(output, plan.segments)
    entries = unplanned_entries(output, plan, found, partly, redo=redo)
    if is_full:
        deque(entries, maxlen=0)  # to count changed inputs
    first = next(entries, None)
    rest = None if first is None else chain([first], entries)
    return NewInputs(plan=plan, listing=found, entries=rest, partly=partly, remaining=remaining)

"""What is committed in OUTPUT when a driver begins."""

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.runtime.driver.quarantine_parts import list_quarantine
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.records.committed import ListedParts, list_parts
from pipeline.runtime.records.receipts import Receipt, read_receipts
from pipeline.storage import Store


class OutputState(NamedTuple):
    """The stamps of the files in quarantine/, the receipts by shard, and the files in predictions/."""

    quarantine: Mapping[str, str]
    receipts: Mapping[int, Receipt]
    parts: ListedParts


def read_state(output: Store, run: str, plan: Plan) -> OutputState:
    """List and read OUTPUT, the parts last: they are written first, so another driver's receipt has its part here."""
    quarantine, receipts = list_quarantine(output), read_receipts(output, run)
    return OutputState(quarantine, receipts, list_parts(output, run, receipts.keys() | plan.rebuilt_shards))

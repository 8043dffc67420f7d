"""Whether a plan is that of the parts: one that lost its end, or was rebuilt, may not tell what some of them hold."""

from collections.abc import Set

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import PLAN
from pipeline.runtime.plan.rebuilt_plan import lost_shards
from pipeline.runtime.records.committed import read_receipts_of_parts
from pipeline.runtime.records.receipts import Receipt
from pipeline.sinks.parts import part_key
from pipeline.sinks.run_records import DamagedRecord
from pipeline.storage import Store


def check_plan(output: Store, run: str, plan: Plan, shards: Set[int]) -> None:
    """Raise DamagedRecord if the plan does not know these shards, which have parts, or if a rebuilt plan lacks one."""
    beyond = read_receipts_of_parts(output, run, {shard for shard in shards if shard >= plan.shards})
    for shard, found in beyond:
        if isinstance(found, Receipt):  # else it is a file that is no part, which is named later
            raise DamagedRecord(output, PLAN, f"is not the whole plan: {part_key(run, shard)} is not in it")
    for file in (file for file in plan.files if file.rebuilt_from):
        if lost := lost_shards(output, file, shards):
            raise DamagedRecord(output, PLAN, f"does not tell what was in {part_key(run, lost[0])}, which is gone")

"""Agreement of quarantine/ with the parts: its files hold exactly the units of the run that have no row.

Each is derived from the footer of a part. One that was deleted or changed is written again; units that a retry read
again are withdrawn, since the part of the retry tells what became of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pipeline.faultpoints import reached
from pipeline.runtime.plan.plan_files import Segment
from pipeline.runtime.plan.quarantined_units import footers_without_retried, retried_shards
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.ownership import check_owner
from pipeline.sinks.parts import encode_quarantine, quarantine_key
from pipeline.storage import Missing, Store

QUARANTINE = "quarantine/"


def list_quarantine(output: Store) -> dict[str, str]:
    """Return the stamps of the files in quarantine/, by key.

    To be listed before the parts: a quarantine part is written after its part, so that a file without a part is none.
    """
    return {key: stamp for key, stamp in output.stamps(QUARANTINE) if key.endswith(".parquet")}


def wrong_quarantine(output: Store, run: str, listed: Mapping[str, str], shards: int) -> dict[str, str]:
    """Return sentences about the files in quarantine/ that no shard of the plan writes, by key."""
    own = {quarantine_key(run, shard) for shard in range(shards)}
    return {key: f"{output.uri_of(key)} is not a part of this run" for key in listed if key not in own}


def update_quarantine(
    output: Store, run: Run, segments: Sequence[Segment], listed: Mapping[str, str], receipts: Mapping[int, Receipt]
) -> list[Receipt]:
    """Make quarantine/ agree with the parts; return the receipts of those whose quarantine part was written."""
    with_units = {shard for shard, receipt in receipts.items() if receipt.quarantined}
    keys = {shard: quarantine_key(run.run, shard) for shard in with_units}
    stale = listed.keys() - keys.values()  # of shards that quarantined nothing, or whose part was deleted
    changed = {shard for shard in with_units if not _agrees(receipts[shard], listed.get(keys[shard], ""))}
    replaced, withdrawn = (sum(getattr(each, name) for each in receipts.values()) for name in ("replaced", "withdrawn"))
    if replaced != withdrawn:
        changed |= retried_shards(output, segments, receipts.keys()) & with_units
    if stale or changed:
        check_owner(output, run.run)
    for key in stale:
        output.delete(key)
    return list(_rewrite(output, run, segments, receipts, sorted(changed)))


def _agrees(receipt: Receipt, stamp: str) -> bool:
    """Return whether the quarantine part is the one of its receipt: none if all units of it were retried since."""
    return stamp == receipt.quarantine and bool(stamp) == (receipt.quarantined > receipt.withdrawn)


def _rewrite(
    output: Store, run: Run, segments: Sequence[Segment], receipts: Mapping[int, Receipt], shards: Sequence[int]
) -> Iterator[Receipt]:
    """Write the quarantine parts of these shards as their footers and retries have it; yield the new receipts."""
    for footer, withdrawn in footers_without_retried(output, run, segments, receipts.keys(), shards):
        key, stamp = quarantine_key(run.run, footer.shard), ""
        reached("quarantine.before")
        if footer.quarantined:
            _put(output, key, encode_quarantine(footer))
            stamp = output.stamp(key)
        else:
            output.delete(key)
        reached("quarantine.put")
        yield replace(receipts[footer.shard], quarantine=stamp, withdrawn=withdrawn)


def _put(output: Store, key: str, data: bytes) -> None:
    """Write a file unless it has this content."""
    try:
        is_there = output.read(key) == data
    except Missing:
        is_there = False
    if not is_there:
        output.put(key, data)

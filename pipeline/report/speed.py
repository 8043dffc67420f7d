"""How fast a run was: seconds per stage, units per second over time, and which stage limits it. From receipts alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.formatting import duration
from pipeline.runtime.records.receipts import Receipt

STAGES = ("load", "predict", "write")
MIN_TIMED = 4  # parts with a time, below which neither a graph nor a share of busy time says anything
MIN_BINS, MAX_BINS = 3, 40  # of the graph
PARTS_PER_BIN = 4  # at least: parts are committed in bursts
BUSY = 0.7  # share of the time that replicas work, from which on they limit the run
ADVICE = {
    "load": "Reading and decoding inputs limits the run: more CPUs, or INPUT closer to the cluster, make it faster. "
    "More replicas do not.",
    "predict": "The model limits the run: a GPU, or more replicas (--replicas), make it faster.",
    "write": "Writing parts limits the run: fewer columns of arrays, more CPUs, or OUTPUT closer to the cluster, make "
    "it faster. More replicas do not.",
}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of a run. `seconds`: by stage, of all its tasks together. `wall_seconds`: of the drivers, without pauses
    between them, and `units_per_second` in them; None if too few parts have a time. `bottleneck`: a stage and a
    sentence about it."""

    seconds: Mapping[str, float]
    shares: Mapping[str, float]
    wall_seconds: float | None
    units_per_second: float | None
    bottleneck: str
    sentence: str
    graph: tuple[np.ndarray, np.ndarray] | None  # edges of bins in seconds [n + 1], units per second [n]
    drivers: int


def measure_speed(receipts: Iterable[Receipt], options: Mapping[str, Any], dtype: str) -> Speed | None:
    """Return the speed of a run of these options, None if nothing is committed."""
    receipts = list(receipts)
    if not receipts:
        return None
    seconds = {stage: sum(getattr(receipt, f"seconds_{stage}") for receipt in receipts) for stage in STAGES}
    total = sum(seconds.values()) or 1.0
    shares = {stage: seconds[stage] / total for stage in STAGES}
    timed = list(_timed(receipts))
    wall = max((at for at, _ in timed), default=0.0)
    is_timed = len(timed) >= MIN_TIMED and wall > 0
    busy = sum(receipt.seconds_predict for _, receipt in timed) / wall if is_timed else None
    bottleneck, sentence = _bottleneck(shares, total, busy, _replicas(options, dtype))
    return Speed(
        seconds=seconds,
        shares=shares,
        wall_seconds=wall if is_timed else None,
        units_per_second=sum(receipt.units for _, receipt in timed) / wall if is_timed else None,
        bottleneck=bottleneck,
        sentence=sentence,
        graph=_graph(timed, wall) if is_timed and len(timed) >= MIN_BINS * PARTS_PER_BIN else None,
        drivers=len({receipt.driver for receipt in receipts if receipt.driver}),
    )


def _timed(receipts: Sequence[Receipt]) -> Iterable[tuple[float, Receipt]]:
    """Yield (seconds of work until it was committed, receipt) of each but the first part of each driver.

    Time between two drivers, when nobody worked, does not count; neither does the start of a driver, whose first part
    only tells when its clock starts.
    """
    by_driver: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in sorted(receipts, key=lambda receipt: receipt.received_at):
        if receipt.driver:
            by_driver[receipt.driver].append(receipt)
    before = 0.0
    for own in by_driver.values():
        for receipt in own[1:]:
            yield before + receipt.received_at - own[0].received_at, receipt
        before += own[-1].received_at - own[0].received_at


def _graph(timed: Sequence[tuple[float, Receipt]], wall: float) -> tuple[np.ndarray, np.ndarray]:
    bins = min(MAX_BINS, len(timed) // PARTS_PER_BIN)
    edges = np.linspace(0.0, wall, bins + 1)
    units, _ = np.histogram([at for at, _ in timed], edges, weights=[receipt.units for _, receipt in timed])
    return edges, units / (wall / bins)


def _replicas(options: Mapping[str, Any], dtype: str) -> int | None:
    """Return the number of replicas, None if the run chose it by the number of GPUs, which is not recorded."""
    asked = options.get("replicas", "auto")
    if isinstance(asked, int):
        return asked
    on_cpu = options.get("device") == "cpu" or (options.get("dtype", "auto") == "auto" and dtype == "float32")
    return 1 if on_cpu else None


def _bottleneck(shares: Mapping[str, float], total: float, busy: float | None, replicas: int | None) -> tuple[str, str]:
    """Return the stage that limits the run, and why.

    Replicas that work nearly all the time limit it, whatever the other stages take: these run on many CPUs at once.
    """
    if busy is None:
        stage = max(shares, key=lambda stage: shares[stage])
        return stage, (
            f"Most of the time went to {stage}: {shares[stage]:.0%} of {duration(total)} of work. With so few parts, "
            "this does not tell what limits a longer run."
        )
    if replicas is None:
        most = max(shares, key=lambda stage: shares[stage])
        return most, (
            f"On average {busy:.1f} replicas were predicting. If the run had more replicas, they waited for load, "
            "which then is the bottleneck; otherwise it is predict, and more replicas make it faster."
        )
    share = min(1.0, busy / replicas)
    who = "the replica was" if replicas == 1 else f"{replicas} replicas were"
    if share >= BUSY:
        return "predict", f"Bottleneck: predict. In all, {who} busy {share:.0%} of the time. {ADVICE['predict']}"
    stage = "load" if shares["load"] >= shares["write"] else "write"
    return stage, f"Bottleneck: {stage}. In all, {who} busy only {share:.0%} of the time. {ADVICE[stage]}"

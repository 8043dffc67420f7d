"""Report of a soak as a table and JSON: whether every unit is there once, kills, faults and memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipeline.runtime.plan.plan_files import read_segments
from pipeline.storage import Store
from tests.faults.killed_runs import KILLED
from tests.faults.memory import Life, slope
from tests.faults.output_invariants import assert_complete, rows

if TYPE_CHECKING:
    from tests.faults.soak import Soak

MAY_END = ("0", "1", str(KILLED))  # 1: the same command resumes the run
KINDS, SIZES = ("driver", "raylet"), ("rss", "pss", "own")


def report(
    run: Soak, output: Store, faults: Mapping[str, int], lives: Sequence[Life], *, minutes: float, seed: int
) -> bool:
    """Print the report; return whether every unit is there once and every run ended as expected."""
    units = accounted(output, run.photographs.good, run.photographs.bad)
    unexpected = run.ends.keys() - MAY_END
    found = {
        "minutes": minutes,
        "seed": seed,
        "kills": dict(run.kills),
        "requests": faults.get("requests", 0),
        "faults": {kind: count for kind, count in faults.items() if kind not in ("requests", "faults")},
        "runs": dict(sorted(run.ends.items())),
        "segments": len(read_segments(output)),
        "shards": sum(segment.shards for segment in read_segments(output)),
        **units,
        "memory": [life.summary() for life in lives if life.kind in KINDS],  # not replicas, which are killed too often
        "slopes": {f"{kind}_{size}": slope(_of(lives, kind), size) for kind in KINDS for size in SIZES},
        "messages": run.messages,
    }
    show(found)
    print(json.dumps(found), flush=True)
    return not (units["wrong"] or unexpected)


def accounted(output: Store, good: Sequence[str], bad: Sequence[str]) -> dict[str, Any]:
    """Count the inputs by outcome. `given_up`: good ones quarantined because their shard was killed in every pass."""
    predicted = Counter(row["id"] for row in rows(output, "predictions/"))
    quarantined = {row["id"]: row for row in rows(output, "quarantine/")}
    given_up = sorted(quarantined.keys() & set(good))
    counts = {
        "units": len(good) + len(bad),
        "predicted": len(predicted),
        "quarantined": len(quarantined),
        "lost": len({*good, *bad} - predicted.keys() - quarantined.keys()),
        "double": predicted.total() - len(predicted) + len(predicted.keys() & quarantined.keys()),
        "given_up": {key: f"{quarantined[key]['error']}: {quarantined[key]['message']}" for key in given_up},
        "wrong": "",
    }
    try:
        assert_complete(output, set(good) - quarantined.keys(), {*bad, *given_up})
    except AssertionError as error:
        counts["wrong"] = f"AssertionError: {error}"[:1000] or "AssertionError"
    return counts


def show(found: Mapping[str, Any]) -> None:
    """Print the report as tables."""
    table = Table("", "", title=f"soak of {found['minutes']:g} minutes, seed {found['seed']}")
    for name in ("kills", "requests", "faults", "runs", "segments", "shards", "units", "predicted", "quarantined"):
        table.add_row(name, _words(found[name]))
    for name in ("given_up", "lost", "double", "wrong"):
        table.add_row(name.replace("_", " "), _words(found[name]) or "none")
    table.add_row("MB an hour", _words(found["slopes"]))
    memory = Table("process", "minutes", "own MB", "own MB/h", "PSS MB", "PSS MB/h", title="memory")
    for life in found["memory"]:
        own, pss = (f"{life.get(f'{size}_first', '-')} to {life.get(f'{size}_last', '-')}" for size in ("own", "pss"))
        slopes = (str(life["own_slope"] or "-"), str(life["pss_slope"] or "-"))
        memory.add_row(f"{life['kind']} {life['pid']}", str(life["minutes"]), own, slopes[0], pss, slopes[1])
    console = Console(width=120)
    console.print(table, memory)
    for message in found["messages"]:
        console.print(message, markup=False, highlight=False)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    return str(value)


def _of(lives: Sequence[Life], kind: str) -> list[Life]:
    return [life for life in lives if life.kind == kind]

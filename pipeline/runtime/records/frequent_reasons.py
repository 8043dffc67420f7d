"""The most frequent reasons of quarantined units, for the message about too many of them."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.formatting import count, counted
from pipeline.runtime.records.committed import THREADS
from pipeline.sinks.parts import Quarantined, part_key, read_footer
from pipeline.storage import AccessError, StorageError, Store

NAMED = 3  # reasons in a message
MAX_SHARDS = 256  # that are read for a message
MESSAGE_LETTERS = 160
# What differs between messages of one reason: quoted names, paths, file names, numbers.
_DETAILS = re.compile(r"""'[^']*'|"[^"]*"|\S*/\S*|\b[\w-]+\.[A-Za-z]\w{1,4}\b|0x[0-9a-f]+|\d[\d.,:]*""")


def describe_frequent_reasons(output: Store, run: str, shards: Iterable[int]) -> str:
    """Return the most frequent reasons in the parts of these shards, each with an example.

    At most MAX_SHARDS parts are read.
    """
    read = sorted(shards)[:MAX_SHARDS]
    with ThreadPoolExecutor(THREADS) as pool:
        units = [unit for found in pool.map(partial(_quarantined, output, run), read) for unit in found]
    groups = group_by_reason(units)
    named = [
        f"{count(len(group))} like {group[0].id} ({_shortened(group[0].message or group[0].error)})"
        for group in groups[:NAMED]
    ]
    if others := groups[NAMED:]:
        named.append(f"{count(sum(map(len, others)))} for {counted(len(others), 'other reason')}")
    return ", ".join(named) or "their reasons cannot be read"


def group_by_reason(units: Iterable[Quarantined]) -> list[Sequence[Quarantined]]:
    """Group units whose errors are of one class and whose messages differ in details only, the largest group first."""
    groups: dict[tuple[str, str], list[Quarantined]] = {}
    for unit in units:
        message = unit.message
        for name in (unit.uri, unit.id):
            message = message.replace(name, "'…'") if name else message
        groups.setdefault((unit.error, _DETAILS.sub("…", message)), []).append(unit)
    return sorted(groups.values(), key=len, reverse=True)


def _quarantined(output: Store, run: str, shard: int) -> Sequence[Quarantined]:
    try:
        return read_footer(output, part_key(run, shard)).quarantined
    except (AccessError, StorageError):  # another program deleted it meanwhile
        return ()


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_LETTERS else f"{message[: MESSAGE_LETTERS - 1]}…"

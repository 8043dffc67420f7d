"""Where the rows of units are: row groups by id, found by the statistics of Parquet and the column of ids."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.formatting import counted
from pipeline.runtime.errors import UsageError
from pipeline.storage import Store

ID = "id"
NAMED = 5  # ids in an error message
COMPARED = 5_000  # ids that are compared letter by letter to find similar ones


class NoRow(UsageError):  # noqa: N818 - a state of a unit
    """A unit has no row: it is quarantined, or not a unit of the run. The message says which."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Row groups that hold the units with these ids, and the units in each part, by the key of the part."""

    ids: frozenset[str]
    groups: dict[str, list[int]] = field(default_factory=dict)
    units: dict[str, set[str]] = field(default_factory=dict)


def find_units(store: Store, parts: Sequence[str], ids: Collection[str], quarantined: Callable[[], pa.Table]) -> Places:
    """Return the row groups that hold the units. NoRow if a unit has no row.

    quarantined: reads the units without a row, whose reasons an error gives.
    """
    places, missing = Places(ids=frozenset(ids)), set(ids)
    for part in parts:
        with store.open(part) as source:
            file = pq.ParquetFile(source)
            for group in _groups_that_may_hold(file, places.ids):
                column = file.read_row_group(group, columns=[ID])[ID]
                found = set(column.filter(pc.is_in(column, pa.array(list(places.ids), pa.string()))).to_pylist())
                if found:
                    places.groups.setdefault(part, []).append(group)
                    places.units.setdefault(part, set()).update(found)
                    missing -= found
    if missing:
        raise NoRow(_no_row_message(store, parts, [one for one in ids if one in missing], quarantined()))
    return places


def _groups_that_may_hold(file: pq.ParquetFile, ids: Collection[str]) -> Iterator[int]:
    """Yield the row groups whose smallest and greatest id leave room for one of the ids."""
    at = file.schema_arrow.names.index(ID)
    if at != 0:  # columns before it may take several places
        yield from range(file.num_row_groups)
        return
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(at).statistics
        if known is None or not known.has_min_max or any(known.min <= one <= known.max for one in ids):
            yield group


def _no_row_message(store: Store, parts: Sequence[str], missing: Sequence[str], quarantined: pa.Table) -> str:
    """Say of each of the first units without a row why it has none."""
    rows = quarantined.filter(pc.is_in(quarantined[ID], pa.array(missing, pa.string()))).to_pylist()
    reasons = {row[ID]: f"{row['error']} {row['message']}" for row in rows}
    lines = [
        f"{one!r} is quarantined: {reasons[one]}" if one in reasons else _unknown_unit(store, parts, one)
        for one in missing[:NAMED]
    ]
    more = f"; and {counted(len(missing) - NAMED, 'more id')} without a row" if len(missing) > NAMED else ""
    return "; ".join(lines) + more


def _unknown_unit(store: Store, parts: Sequence[str], wanted: str) -> str:
    similar = _similar_ids(store, parts, wanted)
    hint = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    return f"{wanted!r} is not the id of a unit with a row in {store.uri}{hint}"


def _similar_ids(store: Store, parts: Sequence[str], wanted: str) -> list[str]:
    """Return up to three ids: those that contain the file's name in any case, else those with similar letters.

    Of a large run only the neighbors in the order of ids, and the first ids, are compared letter by letter.
    """
    name = wanted.rpartition("/")[2].partition("#")[0] or wanted
    containing: list[str] = []
    first: list[str] = []
    before, after = "", ""
    for part in parts:
        with store.open(part) as source:
            column = pq.read_table(source, columns=[ID])[ID]
        containing += column.filter(pc.match_substring(column, name, ignore_case=True)).to_pylist()
        first += islice(column.to_pylist(), max(0, COMPARED - len(first)))
        before = max(before, pc.max(column.filter(pc.less(column, wanted))).as_py() or "")
        above = pc.min(column.filter(pc.greater(column, wanted))).as_py() or ""
        after = min(filter(None, (after, above)), default="")
        if len(containing) >= COMPARED:
            break
    neighbors = [one for one in (after, before) if one]
    return get_close_matches(wanted, containing, n=3, cutoff=0.3) or get_close_matches(
        wanted, [*neighbors, *first], n=3
    )

"""A plan that was lost is rebuilt from the parts (`--repair`): what they hold is planned, and everything else is not.

The first segment then stands for all shards up to the last part. Its rows name the files that were predicted, or
quarantined, as a whole; such a row is never run again. Of a file with several units, such as a table, it is unknown
whether the parts hold all of them: the row has only a mark, and the file is planned again. The shards that read it skip
the units that the marked shards hold.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import pyarrow.parquet as pq

from pipeline.runtime.plan.plan_files import (
    MARK,
    PlanFile,
    PlannedShard,
    Segment,
    planned_inputs,
    put_plan_file,
    put_segment,
    read_plan_file,
)
from pipeline.runtime.records.committed import THREADS
from pipeline.runtime.records.origins import Origins, beginnings, is_whole_file
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.parts import Footer, NotThisPart, part_key, read_footer
from pipeline.sources.source import Piece
from pipeline.storage import Entry, Store, is_same_version

ANY_FILE = ""  # key of the mark of a shard whose ids do not tell the files of its units

ReadBefore: TypeAlias = Callable[[Piece], tuple[int, ...]]
"""Returns the shards that may hold units of a piece."""


@dataclass(frozen=True, kw_only=True)
class FoundPart:
    """What a part says: its footer, the versions of the files that are one unit by their keys, and keys of the others.

    ids: of its rows, with their versions.
    """

    footer: Footer
    whole: dict[str, str] = field(default_factory=dict)
    partly: set[str] = field(default_factory=set)
    ids: list[tuple[str, str]] = field(default_factory=list)


def read_parts(output: Store, run: Run, shards: Iterable[int]) -> Iterator[FoundPart | NotThisPart]:
    """Yield what the parts of these shards say, or why a file is none."""
    is_named = Origins.of(run).named

    def read(shard: int) -> FoundPart | NotThisPart:
        key = part_key(run.run, shard)
        try:
            found = FoundPart(footer=read_footer(output, key))
            with output.open(key) as file:
                columns = pq.ParquetFile(file).read(columns=["id", "uri", "version"]).to_pydict()
        except NotThisPart as error:
            return error
        except (OSError, ValueError, KeyError) as error:
            return NotThisPart(f"{output.uri_of(key)} is damaged: its ids cannot be read ({type(error).__name__})")
        for unit, uri, version in zip(columns["id"], columns["uri"], columns["version"], strict=True):
            found.ids.append((unit, version))
            if is_named or not is_whole_file(unit, uri):
                found.partly.update([ANY_FILE] if is_named else beginnings(unit))
            else:
                found.whole[unit] = version
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(read, sorted(shards))


def put_rebuilt_plan(output: Store, run: Run, parts: Sequence[FoundPart], entries: Mapping[str, Entry]) -> None:
    """Write the plan of these parts, in the order of shards.

    entries: of the files that are quarantined as a whole, by key, if they still exist. Later segments get numbers after
    those that the rows have.
    """
    by_shard = {part.footer.shard: part for part in parts}
    quarantined_by: dict[str, list[int]] = defaultdict(list)
    shards = []
    for shard in range(max(by_shard) + 1):
        if shard not in by_shard:
            shards.append(PlannedShard(pieces=[]))
            continue
        footer, pieces = by_shard[shard].footer, list(_pieces(by_shard[shard], entries))
        origins = tuple(tuple(reversed(quarantined_by[piece.key])) for piece in pieces)
        for unit in footer.quarantined:
            quarantined_by[unit.key or unit.id].append(shard)
        known = footer.rows + len(footer.quarantined)
        shards.append(PlannedShard(pieces=pieces, origins=origins, replaces=footer.replaced, known=known))
    digests = tuple(sorted({part.footer.plan for part in parts}))
    about = sum((shard.known or 0) - shard.replaces for shard in shards)
    file = replace(put_plan_file(output, 0, 0, shards), about=about, rebuilt_from=digests)
    put_segment(output, Segment(number=0, files=(file,), is_retry=True), run.run)
    for number in range(1, max(part.footer.segment for part in parts) + 1):
        empty = replace(put_plan_file(output, number, len(shards), []), rebuilt_from=digests)
        put_segment(output, Segment(number=number, files=(empty,)), run.run)


def _pieces(part: FoundPart, entries: Mapping[str, Entry]) -> Iterator[Piece]:
    """Yield a piece for each file of a part, and marks for files of which it may hold only some units."""
    for key, version in part.whole.items():
        yield Piece(key=key, version=version, size=0, units=1)
    partly = set(part.partly)
    for unit in part.footer.quarantined:
        if (key := unit.key or unit.id) == unit.id and key in entries:
            yield Piece(key=key, version=entries[key].version, size=entries[key].size, units=1)
        else:
            partly.update([ANY_FILE] if ANY_FILE in partly else beginnings(unit.id))
    for key in sorted(partly):
        yield Piece(key=key, version=MARK, size=0)


def lost_shards(output: Store, file: PlanFile, listed: Iterable[int]) -> list[int]:
    """Return the shards of a rebuilt plan file that have units, but no part any more: their files are unknown."""
    units = read_plan_file(output, file.name, file.sha256, ["shard", "units"]).to_pydict()
    has_units = {shard for shard, count in zip(units["shard"], units["units"], strict=True) if count}
    return sorted(has_units.difference(listed))


def units_read_before(output: Store, segments: Iterable[Segment]) -> ReadBefore:
    """Return the look-up of the shards that may hold units of a piece, by the marks of a rebuilt plan.

    There are none for a file that was planned since, and then changed.
    """
    segments = list(segments)
    marked: dict[str, list[int]] = defaultdict(list)
    for file in (file for segment in segments for file in segment.files if file.rebuilt_from):
        for row in read_plan_file(output, file.name, file.sha256, ["shard", "pieces"]).to_pylist():
            for piece in row["pieces"]:
                if piece["version"] == MARK:
                    marked[piece["key"]].append(row["shard"])
    anywhere = marked.get(ANY_FILE, [])
    inputs = (each for segment in segments if not segment.is_rebuilt for each in planned_inputs(output, segment))
    since = {each.key: each.version for each in inputs if anywhere or each.key in marked}

    def look_up(piece: Piece) -> tuple[int, ...]:
        if not is_same_version(since.get(piece.key, piece.version), piece.version):
            return ()
        return tuple(dict.fromkeys([*marked.get(piece.key, []), *anywhere]))

    return look_up

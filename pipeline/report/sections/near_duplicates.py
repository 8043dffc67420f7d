"""Near duplicates: groups of units whose embeddings point in nearly the same direction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.formatting import count, counted
from pipeline.labelling.duplicates import SIMILARITY, duplicates_of
from pipeline.labelling.features import read_features
from pipeline.originals.originals import UnitRef
from pipeline.report.sample import Sample
from pipeline.report.shown_text import shown_name
from pipeline.runtime.errors import UsageError

# Of all rows, since a sample has few of both units of a pair. The time grows with their square: 20,000 embeddings of
# 1,024 values take 4 seconds on one core, and the report of them 0.6 GB of memory. Each part is a request.
MAX_ROWS, MAX_PARTS = 20_000, 1_000
SHOWN_GROUPS = 4
SHOWN_UNITS = 3  # of each of them


@dataclass(frozen=True, kw_only=True)
class SimilarUnit:
    """A unit of a group, and the cosine of its embedding to that of the first one."""

    unit: UnitRef
    name: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """Units that resemble the first one. `size`: of the group, of which `shown` are some."""

    size: int
    shown: Sequence[SimilarUnit]


@dataclass(frozen=True, kw_only=True)
class NearDuplicateSection:
    """Groups, the largest first. `reason`: why there are none; then all else is empty.

    `number`: of all groups. `grouped`: number of units in them. `similarity`: cosine from which units are similar.
    """

    note: str = ""
    reason: str = ""
    number: int = 0
    grouped: int = 0
    groups: Sequence[Group] = ()
    similarity: float = SIMILARITY

    @property
    def units(self) -> list[UnitRef]:
        """Units whose originals the section shows."""
        return [each.unit for group in self.groups for each in group.shown]


def near_duplicate_section(sample: Sample, rows: int) -> NearDuplicateSection | None:
    """Return the section about all rows, None if there are none. rows: how many the run has."""
    if not rows:
        return None
    if rows > MAX_ROWS or sample.total > MAX_PARTS:
        return NearDuplicateSection(
            reason=f"the run has {counted(rows, 'row')} in {counted(sample.total, 'part')}, and a report searches at "
            f"most {count(MAX_ROWS)} rows in {count(MAX_PARTS)} parts, because the time grows with their square. "
            "`perceiver export OUTPUT FILE --to duplicates` searches more."
        )
    everything = replace(sample, parts=sample.results.parts())
    columns = ["id", "uri", "embedding"]
    no_limit = MAX_ROWS * len(everything.parts)  # no part has more rows than all
    try:
        found = duplicates_of(*read_features(everything.numbered_batches(columns, no_limit), "mean"))
    except UsageError as error:  # embeddings that are not finite, for example: the rest of the page stays
        return NearDuplicateSection(reason=str(error))
    numbers = found["group"].to_numpy()
    sizes = np.bincount(numbers)[1:]
    largest = np.argsort(-sizes, kind="stable")[:SHOWN_GROUPS].tolist()
    groups = [_group(found, int(np.searchsorted(numbers, place + 1)), int(sizes[place])) for place in largest]
    return NearDuplicateSection(note=everything.note, number=len(sizes), grouped=len(numbers), groups=groups)


def _group(rows: pa.Table, begin: int, size: int) -> Group:
    """Return the group whose `size` rows begin there."""
    shown = [
        SimilarUnit(
            unit=UnitRef(row["id"], row["uri"], row["shard"]),
            name=shown_name(row["id"]),
            similarity=row["similarity"],
        )
        for row in rows.slice(begin, min(SHOWN_UNITS, size)).to_pylist()
    ]
    return Group(size=size, shown=shown)

"""Files that gave quarantined units and were not planned again since: what is retried, or replaced when it changed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.runtime.plan.plan_files import Segment, pieces_in_row, planned_rows, retried_files
from pipeline.runtime.records.committed import committed_receipts
from pipeline.runtime.records.origins import Origins
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.parts import Quarantined, part_key, read_footer
from pipeline.sources.source import Piece
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class QuarantinedFile:
    """Pieces of one file that gave quarantined units; pieces of several if it is not known which one. origins: the
    shards that read them, the latest first. units: the number of units to retry, None if only reading the pieces tells.
    """

    pieces: tuple[Piece, ...]
    origins: tuple[int, ...]
    quarantined: int
    units: int | None

    @property
    def key(self) -> str:
        return self.pieces[0].key

    @property
    def is_whole_file(self) -> bool:
        """Whether it is a whole file, or pair of files, of one unit."""
        return len(self.pieces) == 1 and self.pieces[0].begin is None and self.pieces[0].units == 1


def quarantined_files(output: Store, run: Run, segments: Sequence[Segment]) -> Iterator[QuarantinedFile]:
    """Yield what committed parts quarantined and no later segment planned again."""
    planned = {(shard, key) for _, shard, key in retried_files(output, segments)}
    shards = {receipt.shard for receipt in committed_receipts(output, run.run) if receipt.quarantined}
    for shard, row in planned_rows(output, segments, shards):
        pieces, origins = pieces_in_row(row), row["again"] or [()] * len(row["pieces"])
        quarantined = read_footer(output, part_key(run.run, shard)).quarantined
        for indices, count in _group_by_file(quarantined, pieces, Origins.of(run)):
            if (shard, pieces[indices[0]].key) not in planned:
                group = tuple(pieces[index] for index in indices)
                units = count if all(piece.units is not None for piece in group) else None
                read_by = (shard, *origins[indices[0]])
                yield QuarantinedFile(pieces=group, origins=read_by, quarantined=count, units=units)


def _group_by_file(
    units: Sequence[Quarantined], pieces: Sequence[Piece], origins: Origins
) -> Iterator[tuple[list[int], int]]:
    """Yield (indices of the pieces, number of their quarantined units) for each file. If it is not known which file a
    unit comes from, all pieces of the shard are together."""
    keys = {piece.key for piece in pieces}
    counts = Counter(origins.key_of(unit, keys) for unit in units)
    if None in counts:
        yield list(range(len(pieces))), len(units)
        return
    for key, count in counts.items():
        yield [index for index, piece in enumerate(pieces) if piece.key == key], count

"""What a comparison of two runs found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.comparison.clip_differences import Distance
from pipeline.comparison.embedding_differences import EmbeddingDifferences
from pipeline.comparison.flow_differences import FlowDifferences
from pipeline.comparison.known_labels import KnownLabelComparison
from pipeline.comparison.label_changes import LabelChanges
from pipeline.comparison.mask_changes import MaskChanges
from pipeline.comparison.settings import Setting
from pipeline.formatting import count, counted


@dataclass(frozen=True, kw_only=True)
class UnitCounts:
    """Numbers of units with a row, each counted once.

    Attributes:
        both: in both runs.
        only_a, only_b: in one of them.
        quarantined_in_b, quarantined_in_a: of those of `only_a` and `only_b`, the ones that the other run quarantined.
        other_version: of those in both, the ones whose file had another content, as far as its version tells.
        other_uri: of those in both, the ones that were read from another place.
    """

    both: int
    only_a: int
    only_b: int
    quarantined_in_b: int
    quarantined_in_a: int
    other_version: int
    other_uri: int

    def describe(self) -> Iterator[str]:
        """Yield sentences for people."""
        yield f"{counted(self.both, 'unit')} in both runs"
        for run, other, units, quarantined in (
            ("A", "B", self.only_a, self.quarantined_in_b),
            ("B", "A", self.only_b, self.quarantined_in_a),
        ):
            if units:
                where = f"{count(quarantined)} of them quarantined in {other}"
                yield f"{counted(units, 'unit')} only in {run}, {where}"
        if self.other_version:
            yield (
                f"files changed between the runs: {counted(self.other_version, 'unit')} of both; their differences may "
                "be those of the inputs"
            )
        if self.other_uri:
            yield (
                f"read from another place in B: {counted(self.other_uri, 'unit')} of both; whether the files are the "
                "same is not known"
            )


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the runs: its OUTPUT, and how far it is, such as "40 rows, 2 quarantined"."""

    output: str
    state: str
    is_finished: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Differences of two runs, A and B, over the same inputs.

    Attributes:
        task: of both.
        a, b: the runs.
        units: numbers of units in both and in one of them.
        settings: what the runs were made with, where it differs.
        labels: labels and scores; None if the rows of a run have none.
        known_labels: accuracy of both; None if no label is known.
        flow, masks, embeddings: how far they are apart; None if the rows of a run have none.
        clips: the same of video and audio.
        differences: the units that differ, the one that differs most first; see docs/labelling.md for the columns.
        notes: what was assumed or could not be compared.
    """

    task: str
    a: Side
    b: Side
    units: UnitCounts
    settings: Sequence[Setting]
    labels: LabelChanges | None = None
    known_labels: KnownLabelComparison | None = None
    flow: FlowDifferences | None = None
    clips: Sequence[Distance] = ()
    masks: MaskChanges | None = None
    embeddings: EmbeddingDifferences | None = None
    differences: pa.Table = field(repr=False)
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return sentences for people."""
        lines = [
            f"{run} is not finished: {side.state}; it is compared as far as it is"
            for run, side in (("A", self.a), ("B", self.b))
            if not side.is_finished
        ]
        lines += self.units.describe()
        for part in (self.flow, *self.clips, self.masks, self.labels, self.known_labels, self.embeddings):
            lines += part.describe() if part else []
        return [*lines, *self.notes]

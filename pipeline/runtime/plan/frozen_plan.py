"""The plan of a run: all segments in OUTPUT."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Self

from pipeline.runtime.plan.plan_files import PlanFile, Segment, sum_if_known
from pipeline.runtime.records.committed import Digests
from pipeline.sources.listing.discovery import Listing


@dataclass(kw_only=True)
class Plan:
    """The whole plan of a run. `earlier`: number of segments that OUTPUT had before this planning. `changed`: inputs
    that have another version than planned and are not planned again. `listing`: of INPUT, as far as this planning
    listed it."""

    segments: list[Segment] = field(default_factory=list)
    earlier: int = 0
    changed: int = 0
    listing: Listing | None = None

    @classmethod
    def of(cls, segments: list[Segment]) -> Self:
        """Return the plan of these segments, before anything is planned."""
        return cls(segments=segments, earlier=len(segments))

    @property
    def files(self) -> list[PlanFile]:
        return [file for segment in self.segments for file in segment.files]

    @property
    def rebuilt_shards(self) -> set[int]:
        """Shards of a plan that was rebuilt from the parts: all of them may have one."""
        rebuilt = (file for file in self.files if file.rebuilt_from)
        return {shard for file in rebuilt for shard in range(file.first_shard, file.first_shard + file.shards)}

    def part_digests(self) -> Digests:
        """Return the look-up of the digests that the part of a shard may name."""
        files = self.files
        starts = [file.first_shard for file in files]
        digests = [frozenset({file.sha256, *file.rebuilt_from}) for file in files]
        end = self.shards

        def look_up(shard: int) -> frozenset[str]:
            return digests[bisect_right(starts, shard) - 1] if shard < end else frozenset()

        return look_up

    @property
    def shards(self) -> int:
        return sum(segment.shards for segment in self.segments)

    @property
    def units(self) -> int | None:
        """Planned units, None if only opening the inputs tells."""
        return sum_if_known(segment.units for segment in self.segments)

    @property
    def estimated_units(self) -> int:
        """Sum of known and estimated planned units."""
        return sum(file.about for file in self.files)

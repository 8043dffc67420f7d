"""The plan of a run: all segments in OUTPUT."""

from dataclasses import dataclass, field

from pipeline.runtime.plan.plan_files import PlanFile, Segment, sum_if_known
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

    @property
    def files(self) -> list[PlanFile]:
        return [file for segment in self.segments for file in segment.files]

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

"""A pass over shards: how it runs them, and the configuration of its stages. Imports no ray, which takes a second."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from pipeline.runtime.ray_backend.resources import Resources
from pipeline.runtime.stages.unit_reader import Loader
from pipeline.runtime.stages.write import Writer

MAX_LOST_SHARDS = 256  # shards that may crash their workers before a pass ends; a later pass runs them


class PassMode(Enum):
    """How a pass runs its shards.

    NORMAL: several shards at a time in each process. ISOLATED: one shard at a time per process, and risky steps in a
    child process, so that the unit that crashes it is found and quarantined. QUARANTINE_ALL: nothing is read; every
    unit is quarantined.
    """

    NORMAL = "normal"
    ISOLATED = "isolated"
    QUARANTINE_ALL = "quarantine all"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Configuration sent to workers. It is small, because each restart of a replica reads it again."""

    loader: Loader
    replica: dict[str, Any]  # arguments of a `Replica`
    writer: Writer
    resources: Resources
    stall_timeout: float  # seconds

"""Ray actors of the predict stage: replicas that stop taking shards when their node is drained."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.runtime.ray_backend.drain import DrainGate
from pipeline.runtime.stages.isolated_replica import IsolatedReplica
from pipeline.runtime.stages.predict import Replica


class ReplicaActor(Replica):
    """A `Replica` for `map_batches` that exits between shards when its node is drained."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.gate = DrainGate()

    def __call__(self, row: pa.Table) -> pa.Table:
        """Predict one packed shard."""
        with self.gate.enter():
            return super().__call__(row)


class IsolatedReplicaActor(IsolatedReplica):
    """An `IsolatedReplica` for `map_batches` that exits between shards when its node is drained."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.gate = DrainGate()

    def __call__(self, row: pa.Table) -> pa.Table:
        """Predict one packed shard."""
        with self.gate.enter():
            return super().__call__(row)

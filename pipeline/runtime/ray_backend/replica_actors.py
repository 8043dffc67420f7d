"""Ray actors of the predict stage: replicas that stop taking shards when their node is drained."""

from typing import Any

import pyarrow as pa

from pipeline.runtime.ray_backend.drain import DrainGate
from pipeline.runtime.stages.isolated_replica import IsolatedReplica
from pipeline.runtime.stages.predict import Replica


class ReplicaActor:
    """A `Replica` for `map_batches` that exits between shards when its node is drained."""

    kind: type[Replica | IsolatedReplica] = Replica

    def __init__(self, **arguments: Any) -> None:
        self.replica, self.gate = self.kind(**arguments), DrainGate()

    def __call__(self, row: pa.Table) -> pa.Table:
        """Predict one packed shard."""
        with self.gate.enter():
            return self.replica(row)


class IsolatedReplicaActor(ReplicaActor):
    """An `IsolatedReplica` for `map_batches` that exits between shards when its node is drained."""

    kind = IsolatedReplica

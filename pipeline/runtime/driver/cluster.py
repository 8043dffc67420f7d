"""The cluster of a run, which is connected to at its first use: a run with nothing new needs none."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from pipeline.runtime.driver.display import Display
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.resources import DTYPES, Resources, resolve_resources
from pipeline.runtime.records.claim import other_settings_message
from pipeline.runtime.records.committed import has_parts
from pipeline.runtime.records.run_file import Run, find_run
from pipeline.storage import Store


@dataclass(kw_only=True)
class Cluster:
    """The Ray cluster of a run. `connection`: closes the connection when it is closed."""

    options: RunOptions
    display: Display
    connection: ExitStack
    _resources: Resources | None = field(default=None, init=False)

    def connect(self) -> Resources:
        """Return the run's resources; connect first if this is the first call."""
        if self._resources is None:
            with self.display.phase("connecting to Ray"):
                # Importing Ray takes a second.
                from pipeline.runtime.ray_backend.cluster import cluster_nodes
                from pipeline.runtime.ray_backend.connect import ray_connection

                self.connection.enter_context(ray_connection(self.options.address))
            self._resources = resolve_resources(self.options, cluster_nodes())
        return self._resources

    def connect_for(self, run: Run, output: Store) -> Resources:
        """Connect. UsageError if the cluster's precision is not that of the predictions in OUTPUT."""
        resources = self.connect()
        wanted = replace(run, fingerprint={**run.fingerprint, "dtype": resources.dtype})
        if wanted.fingerprint != run.fingerprint:
            raise UsageError(other_settings_message(output, run, wanted))
        return resources

    def dtype(self, output: Store) -> str:
        """Return the precision of the run. If the options leave it to the cluster, it is that of the predictions in
        OUTPUT; the cluster is connected to if there are none, or if run.json may have to be repaired."""
        dtype = DTYPES.get(self.options.device) if self.options.dtype == "auto" else self.options.dtype
        if dtype is None and not self.options.repair:
            found = find_run(output)
            if found is not None and has_parts(output, found.run):
                return str(found.fingerprint["dtype"])
        return dtype or self.connect().dtype

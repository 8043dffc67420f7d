"""The results of a run, read from OUTPUT while it runs or afterwards."""

from collections.abc import Collection, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.results.condition import condition_on
from pipeline.results.find_units import find_units
from pipeline.results.labelling_methods import LabellingMethods
from pipeline.results.stored_rows import check_columns, read_schema, read_tables
from pipeline.results.unit_arrays import audio_array, flow_array, latents_array, require_column, video_array
from pipeline.runtime.driver.status import Status, status
from pipeline.runtime.errors import UsageError
from pipeline.runtime.plan.quarantined_units import quarantined_units
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.run_file import Run, read_run
from pipeline.sinks.parts import part_key
from pipeline.sinks.python_rows import python_rows
from pipeline.storage import Store

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.runtime.ray_backend.stored_parts import Dataset

ROWS_AT_ONCE = 64  # that are Python objects


def open_run(output: str | Path) -> "Results":
    """Open the results in OUTPUT, a local folder or a URI, of a run that is finished or not.

    UsageError if OUTPUT is not the OUTPUT of a run.
    """
    store = Store(str(output))
    return Results(run=read_run(store), store=store)


class Results(LabellingMethods):
    """Rows and quarantined units of a run. Each call lists OUTPUT afresh, so a run may still be adding to it.

    Attributes:
        run: content of run.json.
        store: OUTPUT.
    """

    def __init__(self, *, run: Run, store: Store) -> None:
        self.run = run
        self.store = store

    @property
    def task(self) -> str:
        """The task of the run, such as "image-classification"."""
        return str(self.run.fingerprint["head"])

    def status(self) -> Status:
        """Return the progress of the run, and its numbers of rows, quarantined units and parts."""
        return status(self.store)

    def parts(self) -> list[str]:
        """Return the keys of the committed parts in `store`, in the order of the plan."""
        return [part_key(self.run.run, shard) for shard in sorted(list_parts(self.store, self.run.run).shards)]

    def schema(self) -> pa.Schema:
        """Return the names and types of the columns; without columns before the first part."""
        return read_schema(self.store, self.parts()) or pa.schema([])

    def rows(
        self,
        columns: Sequence[str] | None = None,
        ids: Collection[str] | None = None,
        where: str | None = None,
        parts: Sequence[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield rows in the order of the plan. Memory is bounded: a row group, up to 64 MB, is read at a time.

        Lists of numbers are numpy arrays, other values Python objects.

        Args:
            columns: Names of the columns; None for all.
            ids: Ids of units; None for all. A unit that was predicted again with `--changed redo` has several rows.
            where: SQL expression over the columns, such as "score < 0.5"; requires the extra `export`.
            parts: Some of `parts()`; None for all.

        Raises:
            NoRow: A unit in `ids` has no row; the message says whether it is quarantined.
            UsageError: A column does not exist, or `where` is not valid.
        """
        for table in self._tables(columns, ids, where, parts):
            for start in range(0, table.num_rows, ROWS_AT_ONCE):
                yield from python_rows(table.slice(start, ROWS_AT_ONCE))

    def batches(
        self,
        columns: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
        ids: Collection[str] | None = None,
        where: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows as record batches, one or more per row group. Arguments and memory are as in `rows`."""
        for table in self._tables(columns, ids, where, parts):
            yield from table.to_batches()

    def to_arrow(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Return the rows as one table in memory. Select `columns` if a run has arrays or media."""
        tables = list(self._tables(columns, None, where, None))
        schema = self.schema()
        wanted = schema.names if columns is None else list(columns)
        empty = pa.schema(
            [schema.field(name) if name in schema.names else pa.field(name, pa.null()) for name in wanted]
        )
        # A kept column may have another type in files that a later command added.
        return pa.concat_tables([empty.empty_table(), *tables], promote_options="permissive")

    def to_pandas(self, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
        """Return the rows as a data frame. Select `columns` if a run has arrays or media."""
        return self.to_arrow(columns, where).to_pandas()

    def dataset(self, columns: Sequence[str] | None = None) -> "Dataset":
        """Return the rows as a `ray.data.Dataset`, read part by part by tasks of Ray, which starts unless it runs."""
        from pipeline.runtime.ray_backend.stored_parts import parts_dataset

        parts = self.parts()
        if columns is not None:
            check_columns(columns, read_schema(self.store, parts) or pa.schema([]))
        return parts_dataset(self.store, parts, columns)

    def quarantined(self) -> pa.Table:
        """Return the units without a row: id, uri, stage, error, message, attempts.

        Units that a retry has predicted are not among them.
        """
        return quarantined_units(self.store, self.run)

    def require(self, column: str) -> None:
        """Raise UsageError, with the reason, unless rows have flow of whole frames, video, audio or latents."""
        require_column(column, self.schema().names, self.task, self.store.uri)

    def units_by_part(self, ids: Collection[str]) -> dict[str, set[str]]:
        """Return which of the units are in each part, by its key. NoRow if one has no row."""
        return find_units(self.store, self.parts(), ids, self.quarantined).units

    def flow(self, id: str) -> np.ndarray:
        """Return the motion float32 [H, W, 2] from a frame to the next one, in pixels, x then y.

        Raises NoRow, or UsageError if the run has no flow of whole frames.
        """
        self.require("flow")
        return flow_array(self._row(id, ["flow", "height", "width"]))

    def video(self, id: str) -> np.ndarray:
        """Return the reconstructed frames uint8 [T, H, W, 3]. Raises NoRow, or UsageError if the run has no video."""
        self.require("video")
        return video_array(self._row(id, ["video"])["video"]["bytes"])

    def audio(self, id: str) -> tuple[np.ndarray, int]:
        """Return the reconstructed samples float32 [S, C] in [-1, 1] and the samples per second.

        Raises NoRow, or UsageError if the run has no audio.
        """
        self.require("audio")
        return audio_array(self._row(id, ["audio"])["audio"]["bytes"])

    def latents(self, id: str) -> np.ndarray:
        """Return the latents float32 [N, D], or [T, N, D] of a frame in T > 1 tiles or a text in T windows.

        Raises NoRow, or UsageError if the run did not store latents.
        """
        self.require("latents")
        return latents_array(self._row(id, ["latents", "num_latents", "d_latents"]))

    def __repr__(self) -> str:
        return f"<Results of {self.task} in {self.store.uri}: {self.status().describe()}>"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        units = self.status().describe()
        facts = {"task": self.task, "input": self.run.input, "output": self.store.uri, "units": units}
        lines = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table>{''.join(lines)}</table>"

    def _tables(
        self,
        columns: Sequence[str] | None,
        ids: Collection[str] | None,
        where: str | None,
        parts: Sequence[str] | None,
    ) -> Iterator[pa.Table]:
        """Return the wanted rows as a stream of tables, after checks of the arguments."""
        if isinstance(columns, str) or isinstance(ids, str):
            raise UsageError(f"columns ({columns!r}) and ids ({ids!r}) must be lists of names, not one text")
        keys = self.parts() if parts is None else list(parts)
        schema = read_schema(self.store, keys)
        places = None
        if ids is not None:
            places = find_units(self.store, keys, ids, self.quarantined)
        if schema is None:
            return iter(())
        if columns is not None:
            check_columns(columns, schema)
        condition = None if where is None else condition_on(where, schema)
        return read_tables(self.store, keys, columns, places=places, condition=condition)

    def _row(self, unit: str, columns: Sequence[str]) -> dict[str, Any]:
        """Return the latest row of a unit."""
        *_, latest = self.rows(columns, ids=[unit])
        return latest

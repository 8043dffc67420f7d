"""Rows of some units: the columns of a Parquet row, or null with the error of a unit that cannot be predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline.heads.head import ColumnType
from pipeline.heads.latent_columns import latents_from_row
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.load import to_tables
from pipeline.runtime.stages.media_encoding import encode_media
from pipeline.runtime.stages.micro_batches import MicroBatches
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import KEPT_PREFIX
from pipeline.runtime.stages.unit_reader import Loaded
from pipeline.sinks.parts import Quarantined
from pipeline.sinks.python_rows import python_rows
from pipeline.sinks.schema import arrow_type

ERROR_COLUMNS: Mapping[str, str] = {"error": "string", "message": "string"}


@dataclass(frozen=True, kw_only=True)
class PredictedRows:
    """One row per unit, in the order of the units.

    Attributes:
        table: the columns of `row_schema`; null for units that are in `failed`.
        failed: units that cannot be predicted, by row.
    """

    table: pa.Table
    failed: Mapping[int, Quarantined]

    def with_errors(self) -> pa.Table:
        """Return the table with the columns of `ERROR_COLUMNS`, which are null for predicted units."""
        units = [self.failed.get(row) for row in range(self.table.num_rows)]
        table = self.table
        for name in ERROR_COLUMNS:
            values = [None if unit is None else getattr(unit, name) for unit in units]
            table = table.append_column(name, pa.array(values, pa.string()))
        return table

    def results(self) -> list[dict[str, Any] | Quarantined]:
        """Return a dict or the `Quarantined` of each unit. Lists of numbers are arrays, see `_shaped`."""
        rows = python_rows(self.table)
        return [self.failed[row] if row in self.failed else _shaped(values) for row, values in enumerate(rows)]


def row_schema(columns: Mapping[str, ColumnType], kept: pa.Schema) -> pa.Schema:
    """Return the schema of rows: those that reading adds, then the head's, as in Parquet."""
    return pa.schema([*kept, *((name, arrow_type(kind)) for name, kind in columns.items())])


def predict_rows(replica: Replica, kept: pa.Schema, units: Sequence[Loaded | Quarantined]) -> PredictedRows:
    """Predict units in micro-batches, like the predict and the write stage of a run."""
    columns, schema = replica.runner.columns, row_schema(replica.runner.columns, kept)
    failed = {row: unit for row, unit in enumerate(units) if isinstance(unit, Quarantined)}
    # In the tables a unit has the number of its row as id: names of items may be equal.
    loaded = [(str(row), unit) for row, unit in enumerate(units) if isinstance(unit, Loaded)]
    numbered = [replace(unit, unit=replace(unit.unit, id=number)) for number, unit in loaded]
    batches = MicroBatches(replica.runner, replica.batch_sizes, to_tables([*numbered], kept)[0])
    for _ in batches.predict():
        pass
    table, lost = batches.result(0)
    failed |= {int(unit.id): replace(unit, id=_name(units[int(unit.id)])) for unit in lost}
    rows = [int(row) for row in table["id"].to_pylist()]
    names = [*(KEPT_PREFIX + name for name in kept.names), *columns]
    table, errors = encode_media(table.select(names).rename_columns(schema.names), columns, isolated=False)
    for at, error in errors.items():
        unit = units[rows[at]]
        assert isinstance(unit, Loaded)
        failed[rows[at]] = quarantine_record(unit.unit.id, unit.unit.uri, "write", error)
    place = {row: at for at, row in enumerate(rows) if at not in errors}
    order = pa.array([place.get(row) for row in range(len(units))], pa.int64())
    return PredictedRows(table=table.cast(schema).take(order), failed=failed)


def _name(unit: Loaded | Quarantined) -> str:
    return unit.unit.id if isinstance(unit, Loaded) else unit.id


def _shaped(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with flow [H, W, 2], or [P, 2] at points, and latents [N, D], or [T, N, D] of T > 1."""
    shapes: dict[str, tuple[int, ...]] = {}
    if "flow" in row:
        shapes["flow"] = (-1, 2) if "points" in row else (row["height"], row["width"], 2)
    if "points" in row:
        shapes["points"] = (-1, 2)
    for name, shape in shapes.items():
        row[name] = row[name].reshape(shape)
    if "latents" in row:
        latents = latents_from_row(row)
        row["latents"] = latents[0] if len(latents) == 1 else latents
    return row

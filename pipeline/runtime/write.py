"""write: commit a shard's part under its one name, and say so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.heads.base import ColumnType
from pipeline.runtime.load import KEPT
from pipeline.runtime.packing import unpack
from pipeline.runtime.quarantine import from_table
from pipeline.runtime.receipts import Receipt, receipt_of, to_table
from pipeline.runtime.retry import patiently
from pipeline.runtime.rows import media_columns
from pipeline.sinks.parts import Footer, commit
from pipeline.sinks.schema import output_schema
from pipeline.storage import AccessError, StorageFull, Store


@dataclass(frozen=True, kw_only=True)
class Writer:
    """What a write task needs."""

    output: Store
    run: str
    columns: dict[str, ColumnType]
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))

    def rows(self, units: pa.Table) -> pa.Table:
        """The table of a part from predicted units: its columns in order, kept ones under their own names, media as
        files. The types are still the large ones, which `encode_part` makes plain group by group."""
        wanted = output_schema(self.columns, self.kept).names
        names = [KEPT + name if name in self.kept.names else name for name in wanted]
        table = units.select(names)
        return media_columns(table.rename_columns([name.removeprefix(KEPT) for name in names]), self.columns)


def write(row: pa.Table, *, writer: Writer) -> pa.Table:
    """The receipt of a packed shard of rows. An attempt that lost the race goes on with the winner's numbers.

    `fatal` is set in it where no other shard could be written either: no permission, no room.
    """
    started = time.perf_counter()
    units, failed, scalars = unpack(row)
    if scalars["fatal"]:
        return to_table([_fatal(scalars, scalars["fatal"])])
    table = writer.rows(units)
    footer = Footer(
        run=writer.run,
        shard=scalars["shard"],
        segment=scalars["segment"],
        plan=scalars["plan"],
        rows=units.num_rows,
        quarantined=from_table(failed),
        seconds={"load": scalars["seconds_load"], "predict": scalars["seconds_predict"]},
    )
    try:
        committed, _, size = patiently(lambda: commit(writer.output, table, footer))
    except (AccessError, StorageFull) as error:
        return to_table([_fatal(scalars, str(error))])
    return to_table([receipt_of(committed, size=size, seconds_write=time.perf_counter() - started)])


def _fatal(scalars: dict[str, Any], message: str) -> Receipt:
    return Receipt(
        shard=scalars["shard"],
        segment=scalars["segment"],
        rows=0,
        quarantined=0,
        bytes=0,
        seconds_load=scalars["seconds_load"],
        seconds_predict=scalars["seconds_predict"],
        seconds_write=0.0,
        fatal=message,
    )

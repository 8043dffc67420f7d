"""write: commit a shard's part under its one name, and say so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import faultpoints
from pipeline.heads.head import ColumnType
from pipeline.runtime.records.quarantine import records_in_table
from pipeline.runtime.records.receipts import Receipt, receipt_of, receipts_table
from pipeline.runtime.stages.load import KEPT_PREFIX
from pipeline.runtime.stages.media_encoding import Encode, encode_directly, encode_in_sandbox, encode_media
from pipeline.runtime.stages.putting import Shard, put
from pipeline.runtime.stages.shard_format import unpack
from pipeline.sinks.schema import output_schema
from pipeline.storage import AccessError, Missing, StorageError, Store


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
        return self.made(units, encode_directly)[0]

    def made(self, units: pa.Table, encode: Encode) -> tuple[pa.Table, dict[int, Exception]]:
        """`rows`, and by row what went wrong with its media, which then are not there."""
        wanted = output_schema(self.columns, self.kept).names
        names = [KEPT_PREFIX + name if name in self.kept.names else name for name in wanted]
        table = units.select(names)
        return encode_media(
            table.rename_columns([name.removeprefix(KEPT_PREFIX) for name in names]), self.columns, encode
        )


def write(row: pa.Table, *, writer: Writer, isolated: bool = False, attempts: int = 0) -> pa.Table:
    """The receipt of a packed shard of rows. An attempt that lost the race goes on with the winner's numbers.

    A row that cannot be written is quarantined. `isolated`: media are made in a child process, which one of them may
    end; `attempts`: how often the shard was tried before. `fatal` is set in the receipt where the run must hear of it:
    no permission, no room, something else under the shard's name.
    """
    faultpoints.reached("write.begin")
    started = time.perf_counter()
    units, before, scalars = unpack(row)
    if scalars["fatal"]:
        return receipts_table([_fatal(scalars, scalars["fatal"])])
    table, errors = writer.made(units, encode_in_sandbox if isolated else encode_directly)
    shard = Shard(run=writer.run, before=records_in_table(before), scalars=scalars, attempts=attempts)
    try:
        committed, size = put(writer.output, shard, table, errors)
    except (AccessError, StorageError) as error:
        if isinstance(error, Missing) or (isinstance(error, StorageError) and error.transient):
            raise  # another attempt may succeed
        return receipts_table([_fatal(scalars, str(error))])
    faultpoints.reached("write.end")
    return receipts_table([receipt_of(committed, size=size, seconds_write=time.perf_counter() - started)])


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

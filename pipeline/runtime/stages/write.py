"""write: encode the media of a shard's rows and commit its part. A row that cannot be written is quarantined."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline import faultpoints
from pipeline.heads.head import ColumnType
from pipeline.runtime.records.quarantine import quarantine_record, records_in_table
from pipeline.runtime.records.receipts import receipt_of, receipts_table
from pipeline.runtime.stages.media_encoding import MAX_ATTEMPTS, encode_media
from pipeline.runtime.stages.shard_format import KEPT_PREFIX, unpack
from pipeline.sandbox import Died
from pipeline.sinks.parts import Committed, Footer, commit, encode_part
from pipeline.sinks.schema import kept_names, output_schema
from pipeline.storage import AccessError, Missing, StorageError, Store


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Configuration of a write task: where and for which run, the head's columns, and the schema of kept columns."""

    output: Store
    run: str
    columns: dict[str, ColumnType]
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))

    def rows_and_errors(self, units: pa.Table, *, isolated: bool = False) -> tuple[pa.Table, dict[int, Exception]]:
        """Return the table of a part and, by row, why its media cannot be encoded; these are null.

        Columns are in order, kept ones under their names in the output, media as files. Types are still the large ones,
        which `encode_part` makes plain group by group.
        """
        wanted = output_schema(self.columns, self.kept).names
        carried = {new: KEPT_PREFIX + name for name, new in kept_names(self.columns, self.kept.names).items()}
        table = units.select([carried.get(name, name) for name in wanted])
        return encode_media(table.rename_columns(wanted), self.columns, isolated=isolated)


def write(row: pa.Table, *, writer: Writer, isolated: bool = False, attempts: int = 0) -> pa.Table:
    """Commit the part of a packed shard of rows and return its receipt, the winner's if another attempt was first.

    Args:
        row: The packed shard.
        writer: Configuration.
        isolated: Encode media in a sandbox, because one of them may crash the process.
        attempts: Number of earlier attempts at the shard.

    Returns:
        The receipt. Its `fatal` is set if the run cannot continue: no permission, no space, or an object under the
        part's name that is not a part of this plan.
    """
    faultpoints.reached("write.begin")
    started = time.perf_counter()
    units, failed, scalars = unpack(row)
    footer = Footer(
        run=writer.run,
        shard=scalars["shard"],
        segment=scalars["segment"],
        plan=scalars["plan"],
        rows=0,
        quarantined=records_in_table(failed),
        seconds={name: scalars[f"seconds_{name}"] for name in ("load", "predict")},
        replaced=scalars.get("replaces") or 0,
    )
    if scalars["fatal"]:
        return _fatal_receipt(footer, scalars["fatal"])
    table, errors = writer.rows_and_errors(units, isolated=isolated)
    try:
        committed = commit_valid_rows(writer.output, table, footer, errors, attempts)
    except (AccessError, StorageError) as error:
        if isinstance(error, Missing) or (isinstance(error, StorageError) and error.transient):
            raise  # another attempt may succeed
        return _fatal_receipt(footer, str(error))
    faultpoints.reached("write.end")
    stamps = {"stamp": committed.stamp, "quarantine": committed.quarantine}
    seconds = time.perf_counter() - started
    return receipts_table([receipt_of(committed.footer, size=committed.size, seconds_write=seconds, **stamps)])


def commit_valid_rows(
    output: Store, table: pa.Table, footer: Footer, errors: Mapping[int, Exception], attempts: int
) -> Committed:
    """Commit the rows without errors; return the committed part, maybe of another attempt.

    If encoding fails because of some rows, such as a kept time that Parquet cannot hold, commit without these.

    Args:
        output: Where the part is written.
        table: All rows.
        footer: The footer without the rows.
        errors: Why rows cannot be written, by row.
        attempts: Number of earlier attempts at the shard.
    """
    try:
        return _commit_except(output, table, footer, errors, attempts)
    except (AccessError, StorageError):
        raise
    except Exception:
        unwritable = _unwritable_rows(table, footer)
        if not unwritable.keys() - errors.keys():  # no single row is the reason
            raise
    return _commit_except(output, table, footer, {**unwritable, **errors}, attempts)


def _commit_except(
    output: Store, table: pa.Table, footer: Footer, errors: Mapping[int, Exception], attempts: int
) -> Committed:
    """Commit the rows without errors and quarantine the others."""
    rows = np.array([row for row in range(table.num_rows) if row not in errors], np.int64)
    failed = []
    for row, error in sorted(errors.items()):
        unit_id, uri = (table[name][row].as_py() for name in ("id", "uri"))
        tried = attempts + (MAX_ATTEMPTS if isinstance(error, Died | MemoryError) else 1)
        failed.append(quarantine_record(unit_id, uri, "write", error, attempts=tried))
    footer = replace(footer, rows=len(rows), quarantined=(*footer.quarantined, *failed))
    return commit(output, table.take(rows) if errors else table, footer)


def _unwritable_rows(table: pa.Table, footer: Footer) -> dict[int, Exception]:
    """Return the rows that no part can hold, each with the reason."""
    errors: dict[int, Exception] = {}
    for row in range(table.num_rows):
        try:
            encode_part(table.slice(row, 1), replace(footer, rows=1))
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit is quarantined for it
            errors[row] = error
    return errors


def _fatal_receipt(footer: Footer, message: str) -> pa.Table:
    """Return the receipt of a shard of which nothing was written, because the run cannot continue."""
    return receipts_table([replace(receipt_of(footer, size=0), quarantined=0, fatal=message)])

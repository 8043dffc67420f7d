"""A shard's rows into its part, without those that cannot be written: they are quarantined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.media_encoding import MAX_ATTEMPTS
from pipeline.sandbox import Died
from pipeline.sinks.parts import Footer, Quarantined, commit, encode_part
from pipeline.storage import AccessError, StorageError, Store


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a part says beside its rows. `before`: units that did not come as far; `attempts`: the shard's so far."""

    run: str
    before: tuple[Quarantined, ...]
    scalars: Mapping[str, Any]
    attempts: int

    def footer(self, table: pa.Table, errors: Mapping[int, Exception]) -> Footer:
        """The footer of a part with these rows but for those that have errors."""
        return Footer(
            run=self.run,
            shard=self.scalars["shard"],
            segment=self.scalars["segment"],
            plan=self.scalars["plan"],
            rows=table.num_rows - len(errors),
            quarantined=(*self.before, *self._quarantined(table, errors)),
            seconds={name: self.scalars[f"seconds_{name}"] for name in ("load", "predict")},
            replaced=self.scalars.get("replaces") or 0,
        )

    def _quarantined(self, table: pa.Table, errors: Mapping[int, Exception]) -> Iterator[Quarantined]:
        for row in sorted(errors):
            unit = table.select(["id", "uri"]).slice(row, 1).to_pylist()[0]
            attempts = self.attempts + (MAX_ATTEMPTS if isinstance(errors[row], Died) else 1)
            yield quarantine_record(unit["id"], unit["uri"], "write", errors[row], attempts=attempts)


def put(output: Store, shard: Shard, table: pa.Table, errors: Mapping[int, Exception]) -> tuple[Footer, int]:
    """Commit the rows that have no errors; the footer that counts, ours or not, and the part's bytes.

    Where that fails for some rows, such as a kept time that Parquet has no bits for, without those.
    """
    try:
        return _put(output, shard, table, errors)
    except (AccessError, StorageError):
        raise
    except Exception:
        more = {row: error for row, error in _unwritable(shard, table) if row not in errors}
        if not more:  # no row by itself is the reason
            raise
    return _put(output, shard, table, {**errors, **more})


def _put(output: Store, shard: Shard, table: pa.Table, errors: Mapping[int, Exception]) -> tuple[Footer, int]:
    rows = np.array([row for row in range(table.num_rows) if row not in errors], np.int64)
    good, footer = table.take(rows) if errors else table, shard.footer(table, errors)
    committed, _, size = commit(output, good, footer)
    return committed, size


def _unwritable(shard: Shard, table: pa.Table) -> Iterator[tuple[int, Exception]]:
    """The rows that no part can hold, each with the reason."""
    for row in range(table.num_rows):
        one = table.slice(row, 1)
        try:
            encode_part(one, shard.footer(one, {}))
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit is quarantined for it
            yield row, error

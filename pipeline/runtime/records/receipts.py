"""Receipts of committed shards, stored in OUTPUT for status, reports and the next resume."""

import io
import sys
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.faultpoints import reached
from pipeline.sinks.ownership import checking_ownership
from pipeline.sinks.parts import Footer
from pipeline.sinks.run_records import read_record
from pipeline.storage import Store

RECEIPTS = "_run/receipts/"
FLUSH_SECONDS = 30.0
READ_THREADS = 16  # a run of hours has hundreds of small files
SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("shard", pa.int64()),
        ("segment", pa.int32()),
        *((name, pa.int64()) for name in ("rows", "quarantined", "replaced", "bytes")),
        *((name, pa.float64()) for name in ("seconds_load", "seconds_predict", "seconds_write")),
        ("fatal", pa.string()),
        ("heard", pa.float64()),
        ("driver", pa.string()),
        # Not in receipts of earlier versions:
        *((name, pa.string()) for name in ("plan", "stamp", "quarantine")),
        ("withdrawn", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """A committed shard of a run: its part, of `bytes` bytes, and its quarantine part exist.

    `fatal` is set instead if the shard could not be attempted; it ends the run. `received_at` is in seconds since 1970.
    `driver` names the driver that scheduled the shard; it is empty if a driver found the part and read its footer.
    `replaced` counts the quarantined units of other shards that this one retried and that no longer count. `plan` is
    the digest in the part's footer; `stamp` and `quarantine` are the stamps of the part and of its quarantine part. A
    part with another stamp is read again; receipts of earlier versions have none. `withdrawn` counts the quarantined
    units that later shards retried, so that the quarantine part no longer has them.
    """

    shard: int
    segment: int
    rows: int
    quarantined: int
    bytes: int
    seconds_load: float
    seconds_predict: float
    seconds_write: float
    fatal: str = ""
    received_at: float = 0.0
    driver: str = ""
    run: str = ""
    replaced: int = 0
    withdrawn: int = 0
    plan: str = ""
    stamp: str = ""
    quarantine: str = ""

    @property
    def units(self) -> int:
        """Units that the shard adds to the run: a retry of quarantined units replaces as many."""
        return self.rows + self.quarantined - self.replaced


def receipt_of(
    footer: Footer, *, size: int, seconds_write: float = 0.0, stamp: str = "", quarantine: str = ""
) -> Receipt:
    """Return the receipt of a part with this footer and of `size` bytes."""
    return Receipt(
        run=footer.run,
        shard=footer.shard,
        segment=footer.segment,
        rows=footer.rows,
        quarantined=len(footer.quarantined),
        replaced=footer.replaced,
        bytes=size,
        seconds_load=footer.seconds.get("load", 0.0),
        seconds_predict=footer.seconds.get("predict", 0.0),
        seconds_write=seconds_write,
        plan=footer.plan,
        stamp=stamp,
        quarantine=quarantine,
    )


def receipts_table(receipts: Iterable[Receipt]) -> pa.Table:
    """Return the receipts as a table with the columns of SCHEMA; `received_at` is stored as `heard`."""
    return pa.Table.from_pylist([{**asdict(receipt), "heard": receipt.received_at} for receipt in receipts], SCHEMA)


def receipt_in_row(row: dict[str, Any]) -> Receipt:
    """Return the receipt in one row of a `receipts_table`."""
    values = {name: value for name, value in row.items() if name != "heard"}
    for name in ("run", "driver", "plan"):
        values[name] = sys.intern(values.get(name) or "")  # there may be a million receipts
    return Receipt(received_at=row["heard"], **values)


def read_receipts(output: Store, run: str) -> dict[int, Receipt]:
    """Return the latest receipt of each shard of a run, by a fresh listing.

    Receipts of other runs, which a driver may write after its OUTPUT was deleted and used again, are skipped. Raises
    DamagedRecord.
    """
    latest: dict[int, Receipt] = {}
    with ThreadPoolExecutor(READ_THREADS) as pool:
        files = list(pool.map(lambda key: read_record(output, key, _parse), output.keys(RECEIPTS)))
    for receipt in chain.from_iterable(files):
        known = latest.get(receipt.shard)
        if receipt.run == run and (known is None or known.received_at < receipt.received_at):
            latest[receipt.shard] = receipt
    return latest


def _parse(data: bytes) -> list[Receipt]:
    rows = pq.ParquetFile(io.BytesIO(data)).read(columns=SCHEMA.names).to_pylist()
    return [receipt_in_row(row) for row in rows]


@dataclass(kw_only=True)
class Ledger:
    """Receipts of one run, flushed to OUTPUT every FLUSH_SECONDS, each flush as a new file.

    A receipt that a killed driver did not flush is read again from the part's footer.
    """

    output: Store
    driver: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    by_shard: dict[int, Receipt] = field(default_factory=dict)
    _unflushed: list[Receipt] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    def add(self, receipt: Receipt, *, scheduled: bool) -> None:
        """Add a shard that this driver scheduled, or one that it found committed."""
        receipt = replace(receipt, received_at=time.time(), driver=self.driver if scheduled else "")
        self.by_shard[receipt.shard] = receipt
        self._unflushed.append(receipt)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store the receipts added since the last flush. Raises OutputLost if OUTPUT now belongs to another run."""
        self._flushed = time.monotonic()
        if not self._unflushed:
            return
        key, sink = f"{RECEIPTS}{uuid.uuid4().hex}.parquet", io.BytesIO()
        pq.write_table(receipts_table(self._unflushed), sink, compression="zstd")
        with checking_ownership(self.output, self._unflushed[0].run, key):
            reached("receipts.before")
            self.output.put_if_absent(key, sink.getvalue())
            reached("receipts.put")
        self._unflushed.clear()

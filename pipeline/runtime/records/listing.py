"""The latest listing of INPUT, as OUTPUT records it: counts in listing.json, every entry left out in left_out/."""

import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sinks.ownership import checking_ownership
from pipeline.sinks.run_records import read_record
from pipeline.sources import Listing
from pipeline.storage import Missing, Store
from pipeline.storage.left_out import describe, valid_unicode

LISTING = "_run/listing.json"
LEFT_OUT = "_run/left_out/"
FILE_ENTRIES = 1 << 16  # per file of left_out/: a few MB in the driver's memory
SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string())])
_UNNAMED = "not named in a metadata file"


@dataclass(frozen=True, kw_only=True)
class ListedInputs:
    """Counts of a listing: entries listed = files read + entries left out.

    Attributes:
        read: files that are read as units; a pair of frames is two.
        left_out: number of entries left out, by reason.
        first: the first keys of each reason.
        unnamed: images and videos that no metadata file names, so that their kept columns are null.
        first_unnamed: the first keys of them.
        complete: whether INPUT was listed to its end; with --limit a listing ends at the last unit that it allows.
        digest: of all entries left out.
        files: keys of the files that name all entries left out.
    """

    read: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unnamed: int = 0
    first_unnamed: Sequence[str] = ()
    complete: bool = True
    digest: str = ""
    files: Sequence[str] = ()

    @classmethod
    def of(cls, listing: Listing) -> Self:
        """Return the counts of a listing so far."""
        left_out = listing.left_out
        return cls(
            read=listing.read,
            left_out=dict(left_out.counts),
            first=dict(left_out.first),
            unnamed=listing.columns.unnamed,
            first_unnamed=list(listing.columns.first_unnamed),
            complete=listing.complete,
            digest=left_out.digest(),
        )

    @property
    def listed(self) -> int:
        """Number of entries listed."""
        return self.read + self.left_out_total

    @property
    def left_out_total(self) -> int:
        """Number of entries left out, for whatever reason."""
        return sum(self.left_out.values())

    def lines(self) -> list[str]:
        """Return one line per reason, for messages."""
        return [line for _, line in describe(self.left_out, self.first)]

    def unnamed_lines(self) -> list[str]:
        """Return a line about images and videos that no metadata file names, for messages; none if all are named."""
        counts = {_UNNAMED: self.unnamed} if self.unnamed else {}
        return [line for _, line in describe(counts, {_UNNAMED: self.first_unnamed})]

    def totals(self) -> dict[str, Any]:
        """Return the counts for manifest.json."""
        counts = {"listed": self.listed, "read": self.read, "left_out": dict(self.left_out), "first": dict(self.first)}
        return counts | ({"unnamed": self.unnamed} if self.unnamed else {})


def put_listing(output: Store, run: str, listing: Listing) -> ListedInputs:
    """Record a listing in OUTPUT, instead of the one before, and return its counts.

    Raises OutputLost if OUTPUT no longer belongs to the run. Nothing is written if the listing is as it was.
    """
    before, found = read_listing(output), ListedInputs.of(listing)
    if before is not None and asdict(before) | {"files": ()} == asdict(found):
        return before
    files = [f"{LEFT_OUT}{uuid.uuid4().hex}.parquet" for _ in range(0, found.left_out_total, FILE_ENTRIES)]
    found = ListedInputs(**(asdict(found) | {"files": tuple(files)}))
    with checking_ownership(output, run, *files):
        for key, table in zip(files, _tables(listing), strict=True):
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            output.put(key, sink.getvalue())
        output.put(LISTING, json.dumps(asdict(found), indent=1).encode())
    for key in before.files if before is not None else ():
        output.delete(key)
    return found


def read_listing(output: Store) -> ListedInputs | None:
    """Read the counts of the latest listing; None if an earlier version planned the run."""
    try:
        return read_record(output, LISTING, _parse)
    except Missing:
        return None


def _parse(data: bytes) -> ListedInputs:
    values = json.loads(data)
    return ListedInputs(**(values | {"files": tuple(values["files"])}))


def left_out_lines(output: Store, listed: ListedInputs) -> list[str]:
    """Return what is left out for the console, a line per reason; nothing if all entries are read."""
    lines = [f"left out: {line}" for line in listed.lines()]
    if lines and not listed.complete:
        lines.append("left out so far: INPUT was listed up to the last unit that --limit allows")
    lines += [f"all that is left out: {output.uri_of(LEFT_OUT)}"] if lines else []
    return [*lines, *(f"kept columns are null: {line}" for line in listed.unnamed_lines())]


def _tables(listing: Listing) -> Iterator[pa.Table]:
    """Yield all entries left out, FILE_ENTRIES per table."""
    entries = listing.left_out.entries()
    while rows := list(islice(entries, FILE_ENTRIES)):
        keys = [valid_unicode(key) for key, _ in rows]
        yield pa.table({"key": keys, "reason": [reason for _, reason in rows]}, schema=SCHEMA)

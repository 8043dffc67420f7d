"""The frozen plan in OUTPUT: segments that name plan files, plan files that hold shards.

A plan file counts only if a segment names it, with its digest. A segment is put if absent, so of two drivers that plan
at the same time one wins; shard numbers run on from one segment to the next.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.faultpoints import reached
from pipeline.sinks.ownership import check_owner
from pipeline.sources.source import Piece
from pipeline.storage import Store

PLAN = "_run/plan/"
PIECE = pa.struct(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("size", pa.int64()),
        *((name, pa.int64()) for name in ("begin", "end", "first", "offset")),
        ("other", pa.string()),
        *((name, pa.int64()) for name in ("units", "about", "weight", "skip", "most")),
    ]
)
SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("segment", pa.int32()),
        ("units", pa.int64()),  # null where only opening the pieces tells
        ("pieces", pa.large_list(PIECE)),
        ("again", pa.list_(pa.list_(pa.int64()))),  # null where the shard is no second chance
        ("replaces", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """One shard, as a plan file stores it.

    origins: of a retry of quarantined units, for each piece the shards that read it before, the latest first; units
    that those predicted are skipped. replaces: the number of quarantined units that the retry replaces. known: the
    number of units to retry, None if only opening the pieces tells.
    """

    pieces: Sequence[Piece]
    origins: tuple[tuple[int, ...], ...] = ()
    replaces: int = 0
    known: int | None = None

    @property
    def units(self) -> int | None:
        """How many it holds, None where only opening its pieces tells."""
        return self.known if self.origins else sum_if_known(piece.units for piece in self.pieces)

    @property
    def estimated_units(self) -> int:
        """What is known or guessed of them beyond what is planned already."""
        return 0 if self.origins else sum(piece.units or piece.about or 0 for piece in self.pieces)


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """One plan file: row i holds shard `first_shard + i`. `units` is None where only opening its pieces tells; `about`
    adds up what is known or guessed of them."""

    name: str
    sha256: str
    first_shard: int
    shards: int
    units: int | None
    about: int
    replaces: int = 0


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One planning of a run: the plan files that count, in order of their shards. is_retry: of quarantined units."""

    number: int
    files: tuple[PlanFile, ...]
    is_retry: bool = False

    @property
    def key(self) -> str:
        return segment_key(self.number)

    @property
    def shards(self) -> int:
        return sum(file.shards for file in self.files)

    @property
    def first_shard(self) -> int:
        return self.files[0].first_shard

    @property
    def units(self) -> int | None:
        """Units beyond those of earlier segments, None where only opening the inputs tells."""
        return sum_if_known(None if file.units is None else file.units - file.replaces for file in self.files)

    def to_json(self) -> bytes:
        summary = {"segment": self.number, "first_shard": self.first_shard, "shards": self.shards, "units": self.units}
        summary["again"] = self.is_retry
        return json.dumps(summary | {"files": [asdict(file) for file in self.files]}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Segment:
        values = json.loads(data)
        files = tuple(PlanFile(**file) for file in values["files"])
        return cls(number=values["segment"], files=files, is_retry=values["again"])


def segment_key(number: int) -> str:
    return f"{PLAN}segment-{number:05d}.json"


def sum_if_known(counts: Iterable[int | None]) -> int | None:
    """The sum, None where one of the counts is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def read_segments(store: Store) -> list[Segment]:
    """The segments of a run in order; a fresh listing."""
    keys = sorted(key for key in store.keys(PLAN) if key.startswith(f"{PLAN}segment-") and key.endswith(".json"))
    return [Segment.from_json(store.read(key)) for key in keys]


def put_segment(store: Store, segment: Segment, run: str | None = None) -> bool:
    """Put the segment, whose plan files are there. False where another driver's is there by now: that one counts, and
    the plan files of this one are gone. OutputLost where OUTPUT is no longer that of `run`.

    A driver that dies before, or fails, leaves plan files that no segment names: nobody ever reads them.
    """
    if run is not None:
        check_owner(store, run)
    reached("plan.segment-before")
    created = store.put_if_absent(segment.key, segment.to_json())
    reached("plan.segment-put")
    # Compared before anything is deleted: a segment of this very plan must never lose the files that it names.
    if created or Segment.from_json(store.read(segment.key)) == segment:
        return True
    for file in segment.files:
        store.delete(file.name)
    return False


def put_plan_file(store: Store, segment: int, first_shard: int, shards: Sequence[PlannedShard]) -> PlanFile:
    """Write the shards under a name of its own."""
    table = pa.table(
        {
            "shard": range(first_shard, first_shard + len(shards)),
            "segment": [segment] * len(shards),
            "units": [shard.units for shard in shards],
            "pieces": _pieces_of_shards(shards),
            "again": [shard.origins or None for shard in shards],
            "replaces": [shard.replaces for shard in shards],
        },
        schema=SCHEMA,
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    name, data = f"{PLAN}{uuid.uuid4().hex}.parquet", sink.getvalue()
    reached("plan.file-before")
    store.put_if_absent(name, data)
    reached("plan.file-put")
    return PlanFile(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        first_shard=first_shard,
        shards=len(shards),
        units=sum_if_known(shard.units for shard in shards),
        about=sum(shard.estimated_units for shard in shards),
        replaces=sum(shard.replaces for shard in shards),
    )


def _pieces_of_shards(shards: Sequence[PlannedShard]) -> pa.LargeListArray:
    """The column of pieces, made field by field: of a million of them no dict is made."""
    pieces = [piece for shard in shards for piece in shard.pieces]
    arrays = [pa.array([getattr(piece, field.name) for piece in pieces], field.type) for field in PIECE]
    offsets = pa.array([0, *itertools.accumulate(len(shard.pieces) for shard in shards)], pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(PIECE)))


def read_plan_file(store: Store, name: str, sha256: str, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """The shards of a plan file; ValueError where it is not the file that its segment named."""
    data = store.read(name)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{store.uri_of(name)} has the digest {found}, its segment says {sha256}")
    return pq.ParquetFile(io.BytesIO(data)).read(columns=list(columns))


def pieces_in_row(row: dict[str, object]) -> list[Piece]:
    """The pieces of one row of a plan file."""
    return [Piece(**piece) for piece in row["pieces"]]  # type: ignore[attr-defined]


def planned_versions(store: Store, segment: Segment) -> Iterator[tuple[str, str]]:
    """(key, version) of each input that the segment plans, once each, in the order it was listed."""
    last = None
    for file in segment.files:
        pieces = _pieces(store, file)
        for key, version in zip(pieces.field("key").to_pylist(), pieces.field("version").to_pylist(), strict=True):
            if key != last:
                yield key, version
            last = key


def planned_pieces(store: Store, segment: Segment, keys: Collection[str]) -> Iterator[Piece]:
    """The pieces of some inputs, in the order of the plan."""
    wanted = pa.array(keys, pa.string())
    for file in segment.files if keys else ():
        pieces = _pieces(store, file)
        found = pieces.filter(pc.is_in(pieces.field("key"), wanted))
        yield from (Piece(**piece) for piece in found.to_pylist())


def last_piece(store: Store, segment: Segment) -> Piece:
    """The piece that the segment ends with."""
    return Piece(**_pieces(store, segment.files[-1])[-1].as_py())


def _pieces(store: Store, file: PlanFile) -> pa.StructArray:
    """The pieces of a plan file, without their shards."""
    return read_plan_file(store, file.name, file.sha256, ["pieces"]).column("pieces").combine_chunks().flatten()

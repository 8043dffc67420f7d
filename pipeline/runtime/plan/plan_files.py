"""The frozen plan in OUTPUT: segments, which name plan files, and plan files, which contain shards.

A plan file is used only if a segment names it, with its digest. Segments are written by conditional put, so that one of
two drivers that plan at the same time wins. Shard numbers continue from one segment to the next.
"""

import hashlib
import io
import itertools
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.faultpoints import reached
from pipeline.sinks.ownership import check_owner
from pipeline.sinks.run_records import DamagedRecord, read_file, read_record
from pipeline.sources.source import Piece
from pipeline.storage import Missing, Store

PLAN = "_run/plan/"
MARK = ""  # version of a piece of a rebuilt plan that stands for some units of its file
PIECE = pa.struct(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("size", pa.int64()),
        *((name, pa.int64()) for name in ("begin", "end", "first", "offset")),
        ("other", pa.string()),
        *((name, pa.int64()) for name in ("units", "about", "weight", "skip", "most")),
        # Not in plans of earlier versions:
        ("kept", pa.string()),
        *((name, pa.int64()) for name in ("video_begin", "video_end")),
        ("left_out", pa.map_(pa.string(), pa.string())),
        ("links", pa.map_(pa.int64(), pa.int64())),
    ]
)
SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("segment", pa.int32()),
        ("units", pa.int64()),  # null if only opening the pieces tells
        ("pieces", pa.large_list(PIECE)),
        ("again", pa.list_(pa.list_(pa.int64()))),  # `origins`; null if the shard is not a retry
        ("replaces", pa.int64()),
        ("supersedes", pa.list_(pa.list_(pa.int64()))),  # null without changed files; not in plans of earlier versions
    ]
)


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """One shard, as a plan file stores it.

    origins: of a retry of quarantined units, for each piece the shards that read it before, the latest first; units
    that those predicted are skipped. supersedes: for each piece of a file that changed, the shards that quarantined
    units of its earlier version. replaces: the number of quarantined units that the retry or the new version replaces.
    known: the number of units to retry, None if only opening the pieces tells.
    """

    pieces: Sequence[Piece]
    origins: tuple[tuple[int, ...], ...] = ()
    supersedes: tuple[tuple[int, ...], ...] = ()
    replaces: int = 0
    known: int | None = None

    @property
    def units(self) -> int | None:
        """Number of units, None if only opening the pieces tells."""
        return self.known if self.origins else sum_if_known(piece.units for piece in self.pieces)

    @property
    def estimated_units(self) -> int:
        """Known or estimated number of units beyond those of earlier segments."""
        return 0 if self.origins else sum(piece.units or piece.about or 0 for piece in self.pieces)


class PlannedInput(NamedTuple):
    """One input of a segment.

    Attributes:
        key, version: of its file, as planned.
        is_empty: whether it has no units.
        left_out: members of an archive that are left out, as in `Piece`, by the `begin` of their pieces.
    """

    key: str
    version: str
    is_empty: bool
    left_out: dict[int | None, list[tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """A plan file, whose row i is shard `first_shard + i`. `units` is None if only opening the pieces tells; `about` is
    the sum of known and estimated units. `rebuilt_from`: of a plan that was rebuilt from the parts, the digests in the
    footers of these."""

    name: str
    sha256: str
    first_shard: int
    shards: int
    units: int | None
    about: int
    replaces: int = 0
    rebuilt_from: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Plan files of one planning of a run, in the order of their shards. is_retry: it retries quarantined units."""

    number: int
    files: tuple[PlanFile, ...]
    is_retry: bool = False

    @property
    def shards(self) -> int:
        return sum(file.shards for file in self.files)

    @property
    def is_rebuilt(self) -> bool:
        """Whether the segment was rebuilt from the parts, which have no order."""
        return any(file.rebuilt_from for file in self.files)

    @property
    def first_shard(self) -> int:
        return self.files[0].first_shard

    @property
    def end(self) -> int:
        """Number after the last shard."""
        return self.first_shard + self.shards

    @property
    def units(self) -> int | None:
        """Units beyond those of earlier segments, None if only opening the inputs tells."""
        return sum_if_known(None if file.units is None else file.units - file.replaces for file in self.files)

    def to_json(self) -> bytes:
        values = {
            "segment": self.number,
            "first_shard": self.first_shard,
            "shards": self.shards,
            "units": self.units,
            "again": self.is_retry,
            "files": [asdict(file) for file in self.files],
        }
        return json.dumps(values, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        values = json.loads(data)
        found = ({**file, "rebuilt_from": tuple(file.get("rebuilt_from", ()))} for file in values["files"])
        files = tuple(PlanFile(**file) for file in found)
        return cls(number=values["segment"], files=files, is_retry=values["again"])


def segment_key(number: int) -> str:
    return f"{PLAN}segment-{number:05d}.json"


def sum_if_known(counts: Iterable[int | None]) -> int | None:
    """Return the sum, None if one of the counts is unknown."""
    known = list(counts)
    return None if None in known else sum(filter(None, known))


def read_segments(store: Store) -> list[Segment]:
    """Read the segments of a run in order. Raises DamagedRecord, also if one is missing.

    They are looked up by their names, since a listing may be of an earlier time. It tells of those after a gap only.
    """
    listed, segments = list(store.keys(f"{PLAN}segment-")), list[Segment]()
    while (segment := _find_segment(store, len(segments))) is not None:
        segments.append(segment)
    known = {segment_key(number) for number in range(len(segments))}
    for key in listed:
        if key.endswith(".json") and key not in known:
            raise DamagedRecord(store, segment_key(len(segments)), f"is missing, although {key} exists")
    if any(before.end != after.first_shard for before, after in itertools.pairwise(segments)):
        raise DamagedRecord(store, PLAN, "has segments that do not continue one another")
    return segments


def _find_segment(store: Store, number: int) -> Segment | None:
    try:
        return read_record(store, segment_key(number), Segment.from_json)
    except Missing:
        return None


def put_segment(store: Store, segment: Segment, run: str | None = None) -> bool:
    """Write a segment whose plan files exist; return False if another driver has written one with this number.

    That one is then part of the plan, and the plan files of this one are deleted. Raises OutputLost if OUTPUT no longer
    belongs to `run`. A driver that dies before this leaves plan files that no segment names and nothing reads.
    """
    if run is not None:
        check_owner(store, run)
    reached("plan.segment-before")
    created = store.put_if_absent(segment_key(segment.number), segment.to_json())
    reached("plan.segment-put")
    # The existing segment may be this one, if the answer to an earlier attempt was lost: then keep its files.
    if created or Segment.from_json(store.read(segment_key(segment.number))) == segment:
        return True
    for file in segment.files:
        store.delete(file.name)
    return False


def delete_segments(store: Store) -> None:
    """Delete the whole plan in OUTPUT: its segments, the last one first, and the plan files that they name."""
    for segment in reversed(read_segments(store)):
        store.delete(segment_key(segment.number))
        for file in segment.files:
            store.delete(file.name)


def put_plan_file(store: Store, segment: int, first_shard: int, shards: Sequence[PlannedShard]) -> PlanFile:
    """Write the shards as a plan file with a random name."""
    table = pa.table(
        {
            "shard": range(first_shard, first_shard + len(shards)),
            "segment": [segment] * len(shards),
            "units": [shard.units for shard in shards],
            "pieces": _pieces_of_shards(shards),
            "again": [shard.origins or None for shard in shards],
            "replaces": [shard.replaces for shard in shards],
            "supersedes": [shard.supersedes or None for shard in shards],
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
    """Return the column of pieces, built by field: a dict for each of a million pieces would be slow."""
    pieces = [piece for shard in shards for piece in shard.pieces]
    arrays = [pa.array([getattr(piece, field.name) for piece in pieces], field.type) for field in PIECE]
    offsets = pa.array([0, *itertools.accumulate(len(shard.pieces) for shard in shards)], pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(PIECE)))


def read_plan_file(store: Store, name: str, sha256: str, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Read the shards of a plan file; DamagedRecord if it is not the file that its segment names."""
    try:
        data = read_file(store, name)
    except Missing:
        raise DamagedRecord(store, name, "is missing, although the plan names it") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DamagedRecord(store, name, f"changed: its digest is {found}, expected {sha256}")
    return pq.ParquetFile(io.BytesIO(data)).read(columns=list(columns))


def check_plan_files(store: Store, segments: Iterable[Segment]) -> None:
    """Raise DamagedRecord if a plan file is gone, or is not the file that its segment names."""
    for file in (file for segment in segments for file in segment.files):
        read_plan_file(store, file.name, file.sha256, ["shard"])


def planned_rows(
    store: Store, segments: Iterable[Segment], shards: Collection[int], columns: Sequence[str] = SCHEMA.names
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (shard, row of its plan file) of these shards."""
    for file in (file for segment in segments for file in segment.files):
        wanted = sorted(set(shards) & set(range(file.first_shard, file.first_shard + file.shards)))
        if wanted:
            table = read_plan_file(store, file.name, file.sha256, columns)
            yield from ((shard, table.slice(shard - file.first_shard, 1).to_pylist()[0]) for shard in wanted)


def retried_files(store: Store, segments: Iterable[Segment]) -> Iterator[tuple[int, int, str]]:
    """Yield (shard, shard that quarantined units, key of their file) of retries, and of files planned again as they had
    changed."""
    columns = ["shard", "pieces", "again", "supersedes"]
    files = ((file, each.is_retry) for each in segments for file in each.files if file.replaces)
    for file, is_retry in files:
        for row in read_plan_file(store, file.name, file.sha256, columns).to_pylist():
            none = [()] * len(row["pieces"])
            retried = (row["again"] or none) if is_retry else none
            superseded = row.get("supersedes") or none
            for origins, changed, piece in zip(retried, superseded, row["pieces"], strict=True):
                for quarantined_by in (*origins[:1], *changed):
                    yield row["shard"], quarantined_by, piece["key"]


def pieces_in_row(row: dict[str, object]) -> list[Piece]:
    """Return the pieces in one row of a plan file."""
    return [Piece(**piece) for piece in row["pieces"]]  # type: ignore[attr-defined]


def planned_inputs(store: Store, segment: Segment) -> Iterator[PlannedInput]:
    """Yield each input of the segment once, in the order of the listing."""
    found: PlannedInput | None = None
    for file in segment.files:
        pieces = _pieces(store, file)
        columns = [_field(pieces, name) for name in ("key", "version", "begin", "end", "left_out")]
        for key, version, begin, end, left_out in zip(*columns, strict=True):
            if version == MARK:
                continue
            if found is None or key != found.key:
                if found is not None:
                    yield found
                found = PlannedInput(key, version, end == 0, {})
            if left_out:
                found.left_out[begin] = left_out
    if found is not None:
        yield found


def planned_pieces(store: Store, segment: Segment, keys: Collection[str]) -> Iterator[Piece]:
    """Yield the pieces of these inputs, in the order of the plan."""
    if not keys:  # as for most plans: pa.array imports pandas, which takes half a second
        return
    wanted = pa.array(keys, pa.string())
    for file in segment.files:
        pieces = _pieces(store, file)
        found = pieces.filter(pc.is_in(pieces.field("key"), wanted))
        yield from (Piece(**piece) for piece in found.to_pylist())


def last_piece(store: Store, segment: Segment) -> Piece:
    """Return the last piece of the segment."""
    return Piece(**_pieces(store, segment.files[-1])[-1].as_py())


def _pieces(store: Store, file: PlanFile) -> pa.StructArray:
    """Read the pieces of a plan file, without their shards."""
    return read_plan_file(store, file.name, file.sha256, ["pieces"]).column("pieces").combine_chunks().flatten()


def _field(pieces: pa.StructArray, name: str) -> list[Any]:
    """Return a field of the pieces; nulls if an earlier version, which does not know it, wrote the plan file."""
    return pieces.field(name).to_pylist() if pieces.type.get_field_index(name) >= 0 else [None] * len(pieces)

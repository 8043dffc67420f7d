"""Parts: the Parquet file of one shard, whose footer is the one truth of what became of the shard's units."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.faultpoints import reached
from pipeline.sinks.ownership import checking_ownership
from pipeline.sinks.schema import with_features, with_plain_types
from pipeline.storage import StorageError, Store

FOOTER = b"perceiver"  # the key of our footer among the Parquet file's metadata
ROW_GROUP_BYTES = 64 << 20
_PART = re.compile(r"predictions/part-([0-9a-z]+)-(\d{8,})\.parquet")

QUARANTINE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "uri", "stage", "error", "message")] + [("attempts", pa.int32())]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A unit that could not be predicted: at which stage, what went wrong in class and words, after how many tries."""

    id: str
    uri: str
    stage: str
    error: str
    message: str
    attempts: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Footer:
    """What a part says of itself. `plan`: digest of the plan file its shard stands in; `seconds` by stage; `replaced`:
    quarantined units of other shards that this one is a second chance of."""

    run: str
    shard: int
    segment: int
    plan: str
    rows: int
    quarantined: tuple[Quarantined, ...]
    seconds: Mapping[str, float]
    replaced: int = 0

    def to_json(self) -> bytes:
        """The footer as it is written."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Footer:
        """The footer that was written; ValueError, TypeError or KeyError where it was not one of ours."""
        values: dict[str, Any] = json.loads(text)
        units = tuple(Quarantined(**unit) for unit in values.pop("quarantined"))
        return cls(**values, quarantined=units)


def part_key(run: str, shard: int) -> str:
    """The one name of a shard's part."""
    return f"predictions/part-{run}-{shard:08d}.parquet"


def quarantine_key(run: str, shard: int) -> str:
    """The one name of a shard's quarantined units."""
    return f"quarantine/part-{run}-{shard:08d}.parquet"


def parse_part_key(key: str) -> tuple[str, int] | None:
    """The run and shard of a part's key; None for what is no part."""
    found = _PART.fullmatch(key)
    return (found[1], int(found[2])) if found else None


def commit(store: Store, table: pa.Table, footer: Footer) -> tuple[Footer, bool, int]:
    """Put a shard's part if no attempt has; then its quarantine part. (the footer that counts, ours or not, bytes).

    The first attempt wins, and every later one goes on with the winner's footer: no mix of two attempts is ever seen.
    StorageError where what lies there is no part of the same plan's shard; OutputLost where OUTPUT is another run's,
    and then nothing of this one is left in it.
    """
    key, data = part_key(footer.run, footer.shard), encode_part(table, footer)
    with checking_ownership(store, footer.run, key, quarantine_key(footer.run, footer.shard)):
        reached("commit.part-before")
        ours = store.put_if_absent(key, data)
        reached("commit.part-put")
        size = len(data) if ours else store.size(key)
        committed = footer if ours else read_footer(store, key)
        if committed.plan != footer.plan:
            raise StorageError(f"{store.uri_of(key)} is of the plan file {committed.plan}, not of {footer.plan}")
        put_quarantine(store, committed)
        reached("commit.quarantine-put")
    return committed, ours, size


def put_quarantine(store: Store, footer: Footer) -> None:
    """Put the quarantine part that follows from a committed footer, where it has units and the part is not there."""
    if footer.quarantined:
        store.put_if_absent(quarantine_key(footer.run, footer.shard), encode_quarantine(footer))


def read_footer(store: Store, key: str) -> Footer:
    """The footer of a part, by ranged reads; StorageError where the file is not a part of ours."""
    with store.open(key) as file:
        try:
            metadata = pq.read_metadata(file).metadata or {}
            return Footer.from_json(metadata[FOOTER])
        except StorageError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:  # Arrow has an OSError for what is no Parquet
            raise StorageError(f"{store.uri_of(key)} is not a part that this project wrote: {error!r}") from error


def predicted_ids(store: Store, run: str, shards: Iterable[int]) -> frozenset[str]:
    """The ids of the rows in the parts of these shards, by ranged reads of that column."""
    found: set[str] = set()
    for shard in shards:
        with store.open(part_key(run, shard)) as file:
            found.update(pq.ParquetFile(file).read(columns=["id"]).column("id").to_pylist())
    return frozenset(found)


def encode_part(table: pa.Table, footer: Footer) -> bytes:
    """The Parquet file of a shard's rows: zstd, floats without a dictionary, row groups capped by bytes.

    The same rows and footer give the same bytes. Large lists and strings, which tables need on their way, are plain in
    the file, as readers like them. ValueError where the footer counts other rows than the table has.
    """
    if footer.rows != table.num_rows:
        raise ValueError(f"the footer counts {footer.rows} rows, the table has {table.num_rows}")
    return _encode(table, footer.to_json())


def encode_quarantine(footer: Footer) -> bytes:
    """The Parquet file of the quarantined units that a part's footer lists."""
    units = [dataclasses.asdict(unit) for unit in footer.quarantined]
    origin = json.dumps({"run": footer.run, "shard": footer.shard}).encode()
    return _encode(pa.Table.from_pylist(units, schema=QUARANTINE_SCHEMA), origin)


def _encode(table: pa.Table, footer: bytes) -> bytes:
    schema = with_features(with_plain_types(table.schema))
    split, others = _leaves(schema)
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        compression="zstd",
        use_dictionary=others,  # floats do not repeat: a dictionary costs time and gains nothing
        use_byte_stream_split=split,
    ) as writer:
        for group in _row_groups(table.combine_chunks()):  # however it was cut before, the file is the same
            writer.write_table(group.cast(schema), row_group_size=group.num_rows)
        writer.add_key_value_metadata({FOOTER: footer})  # of the file, not of the schema that readers carry on
    return buffer.getvalue()


def _row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """The table, halved until no piece of more than a row is larger than a row group may be.

    No rows are no row group: `datasets` takes the first one's rows for its batch size, which must not be 0.
    """
    if table.num_rows > 1 and table.nbytes > ROW_GROUP_BYTES:
        half = table.num_rows // 2
        yield from _row_groups(table.slice(0, half))
        yield from _row_groups(table.slice(half))
    elif table.num_rows:
        yield table


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The Parquet paths of the columns to split by bytes, and of those to write with a dictionary.

    float16 is neither: split by bytes it is 27 % smaller, and DuckDB (1.4, 2.0) does not read it.
    """
    leaves = [leaf for field in schema for leaf in _paths(field.name, field.type)]
    split = [path for path, kind in leaves if pa.types.is_float32(kind) or pa.types.is_float64(kind)]
    return split, [path for path, kind in leaves if not pa.types.is_floating(kind)]


def _paths(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _paths(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _paths(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind

"""Parts: the Parquet file of one shard. Its footer is the only record of the results of the shard's units."""

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.faultpoints import reached
from pipeline.sinks.encoding import encode_parquet
from pipeline.sinks.ownership import checking_ownership
from pipeline.storage import StorageError, Store

FOOTER = b"perceiver"  # key of the footer in the metadata of the Parquet file
_MAGIC = b"PAR1"  # at both ends of a Parquet file
_PART = re.compile(r"predictions/part-([0-9a-z]+)-(\d{8,})\.parquet")

QUARANTINE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "uri", "stage", "error", "message")] + [("attempts", pa.int32())]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A unit that could not be predicted: the stage, the class and message of the error, the number of attempts.

    `key`: of the planned file that it was read from, if reading it failed; "" if a later stage failed, or an earlier
    version wrote the footer.
    """

    id: str
    uri: str
    stage: str
    error: str
    message: str
    attempts: int
    key: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Footer:
    """Metadata of a part.

    `plan`: digest of the shard's plan file. `seconds`: by stage. `replaced`: number of units quarantined in other
    shards that this shard predicts again.
    """

    run: str
    shard: int
    segment: int
    plan: str
    rows: int
    quarantined: tuple[Quarantined, ...]
    seconds: Mapping[str, float]
    replaced: int = 0

    def to_json(self) -> bytes:
        """Return the serialized footer."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Parse a footer. ValueError, TypeError or KeyError if it is not one."""
        values: dict[str, Any] = json.loads(text)
        units = tuple(Quarantined(**unit) for unit in values.pop("quarantined"))
        return cls(**values, quarantined=units)


def part_key(run: str, shard: int) -> str:
    """Return the key of a shard's part."""
    return f"predictions/part-{run}-{shard:08d}.parquet"


def quarantine_key(run: str, shard: int) -> str:
    """Return the key of a shard's quarantined units."""
    return f"quarantine/part-{run}-{shard:08d}.parquet"


def parse_part_key(key: str) -> tuple[str, int] | None:
    """Return (run, shard) of a part's key; None for any other key."""
    found = _PART.fullmatch(key)
    return (found[1], int(found[2])) if found else None


class Committed(NamedTuple):
    """The part of a shard: its footer, whether this attempt wrote it, and its size in bytes.

    `stamp` and `quarantine` are the stamps of the part and of the quarantine part, which is "" if there is none.
    """

    footer: Footer
    is_ours: bool
    size: int
    stamp: str
    quarantine: str


def commit(store: Store, table: pa.Table, footer: Footer) -> Committed:
    """Write a shard's part unless an attempt has written it, then its quarantine part; return what is there.

    The first attempt wins; later ones adopt its footer, so that no mix of two attempts is visible. Raises StorageError
    if the existing file is not a part of the same plan, and OutputLost, with nothing left behind, if OUTPUT belongs to
    another run.
    """
    key, data = part_key(footer.run, footer.shard), encode_part(table, footer)
    with checking_ownership(store, footer.run, key, quarantine_key(footer.run, footer.shard)):
        reached("commit.part-before")
        ours = store.put_if_absent(key, data)
        reached("commit.part-put")
        size = len(data) if ours else store.size(key)
        committed = footer if ours else read_footer(store, key)
        if committed.plan != footer.plan:
            raise StorageError(f"{store.uri_of(key)} belongs to the plan file {committed.plan}, not to {footer.plan}")
        quarantine = put_quarantine(store, committed)
        reached("commit.quarantine-put")
        return Committed(committed, ours, size, store.stamp(key), quarantine)


def put_quarantine(store: Store, footer: Footer) -> str:
    """Write the quarantine part of a committed footer if it is absent; return its stamp, "" if no unit is in it.

    A file that is there may be of a part that was deleted since: the driver holds it against the footers at the end.
    """
    if not footer.quarantined:
        return ""
    key = quarantine_key(footer.run, footer.shard)
    return store.stamp(key) if store.put_if_absent(key, encode_quarantine(footer)) else ""


class NotThisPart(StorageError):  # noqa: N818 - a state of a file
    """A file with the name of a part is not the whole part of that name. The message says why."""


def read_footer(store: Store, key: str) -> Footer:
    """Read the footer of a part by ranged reads.

    Raises NotThisPart if the file is not Parquet of this project, was cut, has another number of rows than its footer
    says, or is the part of another shard or run.
    """
    with store.open(key) as file:
        try:
            metadata = pq.read_metadata(file)
            footer = Footer.from_json((metadata.metadata or {})[FOOTER])
        except StorageError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:  # Arrow: OSError for a file that is not Parquet
            raise NotThisPart(f"{store.uri_of(key)} is not a part that this project wrote") from error
        size = file.seek(0, io.SEEK_END)
    if parse_part_key(key) not in (None, (footer.run, footer.shard)):
        raise NotThisPart(f"{store.uri_of(key)} is a copy of the part of shard {footer.shard} of run {footer.run}")
    if _encoded_size(metadata) != size or metadata.num_rows != footer.rows:
        raise NotThisPart(f"{store.uri_of(key)} is damaged: bytes of it are missing")
    return footer


def _encoded_size(metadata: pq.FileMetaData) -> int:
    """Return the size of the file that the metadata describes: magic number, columns, metadata, their length, magic."""
    end = len(_MAGIC)
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    for column in (group.column(index) for group in groups for index in range(group.num_columns)):
        begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        end = max(end, begin + column.total_compressed_size)
    return int(end + metadata.serialized_size + 4 + len(_MAGIC))


def ids_of_parts(store: Store, run: str, shards: Iterable[int], *, quarantined: bool = False) -> frozenset[str]:
    """Return the ids in the parts of these shards, by ranged reads of that column; those of quarantined units too."""
    found: set[str] = set()
    for shard in shards:
        key = part_key(run, shard)
        with store.open(key) as file:
            found.update(pq.ParquetFile(file).read(columns=["id"]).column("id").to_pylist())
        if quarantined:
            found.update(unit.id for unit in read_footer(store, key).quarantined)
    return frozenset(found)


def encode_part(table: pa.Table, footer: Footer) -> bytes:
    """Encode a shard's rows as Parquet. ValueError if the footer's number of rows differs from the table's."""
    if footer.rows != table.num_rows:
        raise ValueError(f"the footer counts {footer.rows} rows, the table has {table.num_rows}")
    return encode_parquet(table, {FOOTER: footer.to_json()})


def encode_quarantine(footer: Footer) -> bytes:
    """Encode the quarantined units of a footer as Parquet."""
    units = [dataclasses.asdict(unit) for unit in footer.quarantined]
    origin = json.dumps({"run": footer.run, "shard": footer.shard}).encode()
    return encode_parquet(pa.Table.from_pylist(units, schema=QUARANTINE_SCHEMA), {FOOTER: origin})

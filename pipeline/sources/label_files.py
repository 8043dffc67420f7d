"""Files with the known labels of units: a table with the columns `id` and `label`, or an export of Label Studio.

Everything is text: an id `007` stays what it is. A row without a label is one that nobody has labelled yet.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.formatting import counted, did_you_mean
from pipeline.storage import AccessError, Missing, Store
from pipeline.storage.absence import explain_absence
from pipeline.storage.schemes import require_readable
from pipeline.storage.uris import normalise_uri, split_scheme

COLUMNS = ("id", "label")
_Row: TypeAlias = tuple[str | None, str | None]  # id and label
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """The labels in a file.

    Attributes:
        uri: of the file.
        table: `SCHEMA`, each id once, in ascending order.
        unlabelled: number of rows without a label, or without an id.
    """

    uri: str
    table: pa.Table
    unlabelled: int

    @property
    def notes(self) -> list[str]:
        """What of the file does not count, in sentences."""
        rows = counted(self.unlabelled, "unlabelled row")
        return [f"{self.uri}: {rows}, without a label or an id"] if self.unlabelled else []

    def to_parquet(self) -> bytes:
        """Return the labels as a Parquet file, the same bytes for the same labels."""
        file = pa.BufferOutputStream()
        pq.write_table(self.table, file)
        return bytes(file.getvalue())

    @classmethod
    def from_parquet(cls, uri: str, data: bytes) -> Self:
        """Return what `to_parquet` wrote."""
        return cls(uri=uri, table=pq.read_table(pa.BufferReader(data)).select(COLUMNS), unlabelled=0)

    def of(self, ids: pa.Array) -> pa.Array:
        """Return the labels of units, null for those without one."""
        places = pc.index_in(ids.cast(pa.string()), value_set=self.table["id"].combine_chunks())
        return self.table["label"].combine_chunks().take(places)


def read_label_file(uri: str) -> LabelFile:
    """Read a .csv, .tsv, .jsonl or .parquet file with the columns id and label, or a .json export of Label Studio.

    Raises AccessError, naming the file, if it does not exist, lacks a column, cannot be parsed, or gives one id two
    labels.
    """
    uri = normalise_uri(uri)
    require_readable(uri)
    if "/" not in split_scheme(uri)[1]:
        raise AccessError(f"{uri} is a bucket: name a file with labels in it")
    folder, _, name = uri.rpartition("/")
    extension = f".{name.rpartition('.')[2].lower()}"
    if extension not in _READERS:
        found = ", ".join(_READERS)
        raise AccessError(f"{uri}: a file with labels must be one of {found}{did_you_mean(extension, _READERS)}")
    try:
        data = Store(folder or "/").read(name)
    except Missing:
        absence = explain_absence(uri) or ("is a folder" if split_scheme(uri)[0] is None else "does not exist")
        raise AccessError(f"{uri}: the file with labels {absence}") from None
    try:
        rows = _READERS[extension](uri, data)
    except AccessError:
        raise
    except (pa.ArrowException, ValueError, RecursionError) as error:
        raise AccessError(f"{uri}: the file with labels cannot be read: {error}") from None
    labelled = rows.filter(pc.and_(pc.is_valid(rows["id"]), pc.greater(pc.utf8_length(rows["label"]), 0)))
    return LabelFile(uri=uri, table=_unique(uri, labelled), unlabelled=rows.num_rows - labelled.num_rows)


def _unique(uri: str, rows: pa.Table) -> pa.Table:
    """Return the rows sorted by id, without those that repeat another. AccessError if one id has two labels."""
    rows = rows.group_by(list(COLUMNS)).aggregate([]).sort_by("id")
    ids = rows["id"].combine_chunks()
    twice = pc.equal(ids[1:], ids[:-1])
    if place := pc.index(twice, True).as_py() + 1:
        first, second = rows.slice(place - 1, 2)["label"].to_pylist()
        count = pc.sum(twice).as_py()
        more = f", as {count - 1:,} more ids have" if count > 1 else ""
        raise AccessError(
            f"{uri}: the id {ids[place].as_py()!r} has two labels, {first!r} and {second!r}{more}: keep one of them"
        )
    return rows.select(COLUMNS)


def _from_columns(uri: str, table: pa.Table) -> pa.Table:
    """Return the two columns as text."""
    for name in COLUMNS:
        if table.column_names.count(name) != 1:
            found = ", ".join(table.column_names[:20])
            raise AccessError(f"{uri}: the file with labels needs one column {name!r}; its columns are {found}")
    ids, labels = (_text(uri, name, table[name]) for name in COLUMNS)
    return pa.table([ids, labels], schema=SCHEMA)


def _text(uri: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts, numbers or truth values as text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        raise AccessError(f"{uri}: column {name!r} must hold texts or whole numbers, got {kind}")
    return column.cast(pa.string())


def _csv(separator: str) -> Callable[[str, bytes], pa.Table]:
    def read(uri: str, data: bytes) -> pa.Table:
        as_text = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        text = data.removeprefix(b"\xef\xbb\xbf")
        return _from_columns(uri, pyarrow.csv.read_csv(pa.BufferReader(text), None, parse, as_text))

    return read


def _jsonl(uri: str, data: bytes) -> pa.Table:
    rows: list[_Row] = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            row = _object(uri, f"line {number}", json.loads(line))
            unit, label = (_scalar(uri, f"line {number}", name, row.get(name)) for name in COLUMNS)
            rows.append((unit, label))
    return _table(rows)


def _table(rows: Sequence[_Row]) -> pa.Table:
    return pa.table([[row[column] for row in rows] for column in range(len(COLUMNS))], schema=SCHEMA)


def _parquet(uri: str, data: bytes) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(data))
    return _from_columns(uri, file.read([name for name in file.schema_arrow.names if name in COLUMNS]))


def _label_studio(uri: str, data: bytes) -> pa.Table:
    """Return the choices in an export of Label Studio: JSON, or JSON-MIN. The id of a unit is in the task's data.

    Of several annotations of a task the latest counts; those that were skipped give no label.
    """
    tasks = json.loads(data)
    if not isinstance(tasks, list):
        raise AccessError(f"{uri}: an export of Label Studio is a list of tasks")
    named = ((f"task {number}", task) for number, task in enumerate(tasks))
    return _table([_of_task(uri, place, _object(uri, place, task)) for place, task in named])


def _of_task(uri: str, place: str, task: Mapping[str, Any]) -> _Row:
    data = task.get("data", task)
    unit = _scalar(uri, place, "id", _object(uri, place, data).get(ID_IN_TASK))
    if unit is None:
        raise AccessError(f"{uri}: {place} has no {ID_IN_TASK!r} in its data, by which the project names units")
    if "annotations" not in task:  # JSON-MIN has the choice itself
        return unit, _scalar(uri, place, CHOICE, task.get(CHOICE))
    given = [one for one in task["annotations"] if not one.get("was_cancelled")]
    latest = max(given, key=lambda one: str(one.get("updated_at") or ""), default=None)
    return unit, None if latest is None else next(_choices(latest["result"]), None)


def _choices(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for result in results:
        if result.get("type") == "choices" and result.get("from_name", CHOICE) == CHOICE:
            yield from map(str, result["value"]["choices"])


def _object(uri: str, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AccessError(f"{uri}: {place} is no object with {' and '.join(COLUMNS)}")
    return value


def _scalar(uri: str, place: str, name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise AccessError(f"{uri}: {place}: {name} must be a text or a whole number, got {str(value)[:80]}")


ID_IN_TASK, CHOICE = "unit", "label"
"""Names in tasks of Label Studio: of the unit's id in their data, and of the choice that people make."""

_READERS: Mapping[str, Callable[[str, bytes], pa.Table]] = {
    ".csv": _csv(","),
    ".tsv": _csv("\t"),
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".json": _label_studio,
}

"""Export to one file of rows, csv or jsonl, without arrays and media."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, time
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.export.csv_rows import csv_text, is_formula
from pipeline.export.destination import Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.export.growing_file import GrowingFile
from pipeline.results.stored_rows import check_columns
from pipeline.runtime.errors import UsageError

ARRAYS = frozenset({"flow", "latents", "frames", "samples", "pixels"})
"""Columns with the values of an array, if they are lists."""

_GUARDED = "texts that a spreadsheet would run as formulas begin with an apostrophe"


def exported_columns(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Return the names of the columns that a text file holds, and of those left out: arrays, media and other bytes."""
    left_out = [field.name for field in schema if not _is_text(field)]
    return [name for name in schema.names if name not in left_out], left_out


def _is_text(field: pa.Field) -> bool:
    """Return whether a text file can hold the values of a column: neither arrays nor bytes."""
    return not _has_bytes(field.type) and not (field.name in ARRAYS and pa.types.is_list(field.type))


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _has_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_has_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def csv_line(row: dict[str, Any], notes: Counter[str]) -> str:
    """Return a row of `plain` values as a line of CSV: nulls are empty, lists and structs JSON."""
    cells = [_cell(value) for value in row.values()]
    notes[_GUARDED] += sum(map(is_formula, cells))
    return csv_text(cells)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _json_text(value) if isinstance(value, list | dict) else value


def jsonl_line(row: dict[str, Any], notes: Counter[str]) -> str:  # noqa: ARG001
    """Return a row of `plain` values as a line of JSON."""
    return f"{_json_text(row)}\n"


def _json_text(value: Any) -> str:
    """Return JSON. Numbers that are not finite, which it does not have, are null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any, kind: pa.DataType) -> Any:
    """Return a value as JSON can hold it. Numbers of 16 and 32 bits get their shortest form: 0.1, not 0.10000000149."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [plain(part, kind.value_type) for part in value]
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return float(str(kind.to_pandas_dtype()(value)))
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return value.item() if isinstance(value, np.generic) else value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _table_format(
    name: str, line: Callable[[dict[str, Any], Counter[str]], str], header: Callable[[Sequence[str]], str]
) -> Format:
    def write(selection: Selection, destination: Destination) -> Exported:
        columns, left_out = exported_columns(selection.schema)
        if selection.columns is not None:
            columns, left_out = list(selection.columns), []
        kinds = {column: selection.schema.field(column).type for column in columns}
        exported = Exported(path=destination.store.uri, written=1)
        with GrowingFile.open(destination, header(columns)) as file:
            for part in selection.each_part():
                if part in file.parts:
                    continue
                rows = selection.rows(part, columns)
                values = ({column: plain(row[column], kind) for column, kind in kinds.items()} for row in rows)
                lines = [line(row, file.notes) for row in values]
                file.add(part, "".join(lines), len(lines))
            exported.rows, exported.notes = file.rows, +file.notes
            file.finish()
        if left_out:
            exported.notes[f"columns of arrays and media, left out: {', '.join(left_out)}"] = 0
        return exported

    return Format(name=name, target="local file", check=_check, write=write, options=("columns",))


def _check(selection: Selection) -> None:
    if not selection.schema.names:
        raise UsageError(f"{selection.results.store.uri} has no rows yet")
    if selection.columns is None:
        return
    check_columns(selection.columns, selection.schema)
    for name, times in Counter(selection.columns).items():
        if times > 1:
            raise UsageError(f"--columns names {name} {times} times: name it once")
        if not _is_text(selection.schema.field(name)):
            raise UsageError(f"--columns names {name}, which holds arrays or media, not text: omit it")
    if not selection.columns:
        raise UsageError(f"--columns must name one or more of {', '.join(selection.schema.names)}")


CSV = _table_format("csv", csv_line, csv_text)
JSONL = _table_format("jsonl", jsonl_line, lambda columns: "")  # noqa: ARG005

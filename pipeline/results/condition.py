"""A condition on rows: an SQL expression over the columns, such as `score < 0.5`, evaluated by DuckDB.

DuckDB sees one table in memory at a time, and neither files nor the network.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.formatting import did_you_mean
from pipeline.runtime.errors import UsageError

if TYPE_CHECKING:
    import duckdb

_NO_ACCESS = {"enable_external_access": "false", "python_enable_replacements": "false", "threads": "1"}
_ROW = "_perceiver_row"
_UNKNOWN_COLUMN = re.compile(r'Referenced (?:column|table) "((?:[^"]|"")+)" not found')


@lru_cache(maxsize=4)
def condition_on(expression: str, schema: pa.Schema) -> Condition:
    """Return the condition, made once: a new database takes 50 ms."""
    return Condition(expression, schema)


class Condition:
    """An SQL expression that is true for the wanted rows.

    `columns`: the columns to read for it. Raises UsageError if it is not an expression over columns of `schema`.
    """

    def __init__(self, expression: str, schema: pa.Schema) -> None:
        self.expression = expression
        self._database = _connect()
        # A name that an expression cannot use: a query in it would see one row group, and not all rows.
        self._table = f"rows_{secrets.token_hex(8)}"
        self.columns = self._columns_needed(schema)

    def matching(self, table: pa.Table) -> pa.Array:
        """Return the indices of the rows for which the expression is true. UsageError if it fails on a value."""
        import duckdb

        try:
            return self._matching(table.select(self.columns))
        except duckdb.Error as error:
            raise self._usage_error(error, self.columns) from None

    def _columns_needed(self, schema: pa.Schema) -> list[str]:
        """Return the columns without lists if the expression needs no others, because lists may be large."""
        import duckdb

        empty = schema.empty_table()
        flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
        try:
            self._matching(empty.select(flat))
        except duckdb.Error:
            try:
                self._matching(empty)
            except duckdb.Error as error:
                raise self._usage_error(error, schema.names) from None
            return list(schema.names)
        return flat

    def _matching(self, table: pa.Table) -> pa.Array:
        import duckdb

        duckdb.SQLExpression(self.expression)  # refuses anything but one expression, such as `true) union …`
        numbered = _for_duckdb(table).append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
        with self._database.cursor() as database:  # one for each thread
            database.register(self._table, numbered)
            # On lines of its own, since the expression may end with a comment.
            query = f'select "{_ROW}" from "{self._table}" where (\n{self.expression}\n) order by 1'  # noqa: S608
            return pa.array([row for (row,) in database.execute(query).fetchall()], pa.int64())

    def _usage_error(self, error: duckdb.Error, columns: Sequence[str]) -> UsageError:
        shown = f"the condition {self.expression!r}"
        unknown = _UNKNOWN_COLUMN.search(str(error))
        if unknown:
            name = unknown[1]
            return UsageError(
                f"{shown} uses {name!r}, which must be one of the columns {', '.join(columns)}"
                f"{did_you_mean(name, columns)}; text is quoted with single quotes: label = 'cat'"
            )
        reason = str(error).partition("\n")[0].rstrip("!.")
        return UsageError(
            f"{shown} is not valid: {reason}; it must be an SQL expression over the columns {', '.join(columns)}, "
            "as in score < 0.5 or label = 'cat'"
        )


def _connect() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError:
        raise UsageError("a condition requires DuckDB: pip install 'perceiver-pipeline[export]'") from None
    database = duckdb.connect(config=_NO_ACCESS)
    database.execute("set lock_configuration = true")
    return database


def _for_duckdb(table: pa.Table) -> pa.Table:
    """Return the table with float32 for float16, which DuckDB does not read from Arrow."""
    return table.cast(pa.schema([field.with_type(_without_float16(field.type)) for field in table.schema]))


def _without_float16(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_float16(field.type)) for field in kind])
    return pa.list_(_without_float16(kind.value_type)) if pa.types.is_list(kind) else kind

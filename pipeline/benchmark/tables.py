"""Tables of benchmark results for a terminal."""

from collections import defaultdict
from collections.abc import Iterable

from rich.bar import Bar
from rich.console import Group
from rich.table import Column

from pipeline.benchmark.timing import Row
from pipeline.formatting import count, size
from pipeline.terminal import PlainTable


def engine_table(rows: Iterable[Row]) -> PlainTable:
    """Return the engine against transformers: a row per shape and dtype."""
    names = ("engine", "transformers", "speedup", "over float32", "of the roofline", "greatest error", "peak memory")
    table = PlainTable("shape", "dtype", *_right(*names), title="seconds per unit: median [min, max]")
    for row in rows:
        engine, same, full = (row[f"{name}_seconds"] for name in ("engine", "transformers", "transformers_float32"))
        table.add_row(
            row["shape"],
            row["dtype"],
            _median_and_range(row, "engine_seconds"),
            _median_and_range(row, "transformers_seconds") if same else "fails",
            f"{same / engine:.2f}" if same else "-",
            f"{full / engine:.2f}",
            f"{row['floor_seconds'] / engine:.2f}",
            f"{row['max_abs_err'] / row['output_range']:.1e} of the range",
            size(row["peak_bytes"]),
        )
    return table


def tokenizer_line(row: Row) -> str:
    """Return the tokenizer against transformers' in a sentence."""
    return (
        f"tokenizer: {row['engine_texts_per_second']:,.0f} texts/s, PerceiverTokenizer "
        f"{row['transformers_texts_per_second']:,.0f} ({row['ratio']:.0f} times as fast), medians over batches of "
        f"1,000 texts; identical ids for all {count(row['texts'])} texts of {row['mean_bytes']:,.0f} bytes on average"
    )


def whole_runs_table(rows: Iterable[Row]) -> PlainTable:
    """Return whole runs, a column per shape and dtype. `busy before` says how much other programs disturbed them."""
    table = PlainTable("units/s", title="while predicting: median [min, max]")
    columns = []
    for row in rows:
        table.add_column(f"{row['shape']}\n{row['dtype']}", justify="right")
        columns.append(_whole_run_cells(row))
    for line in columns[0] if columns else ():
        table.add_row(line, *(cells[line] for cells in columns))
    return table


def _whole_run_cells(row: Row) -> dict[str, str]:
    """Return the cells of one column by line. `~` marks extrapolated rates; another dtype is named."""
    about = "~" if row["extrapolated_from_chunks"] else ""
    dtype = f" in {row['plain_ray_dtype']}" if row["plain_ray_dtype"] != row["dtype"] else ""
    cells = {
        "units": str(row["units"]),
        "engine": _median_and_range(row, "engine_units_per_second"),
        "pipeline": _median_and_range(row, "pipeline_units_per_second"),
        "of the engine": f"{row['of_the_engine']:.2f}",
    }
    for key, name in (("plain_ray", "Ray Data"), ("plain_daft", "Daft")):
        measured = row[f"{key}_units_per_second"] is not None
        rate = f"{about}{_median_and_range(row, f'{key}_units_per_second')}{dtype}" if measured else "-"
        cells[f"plain {name}"] = rate
        cells[f"over plain {name}"] = f"{about}{row[f'over_{key}']:.2f}" if measured else "-"
    for stage in ("start", "model", "load", "predict", "write", "whole"):
        cells[f"seconds, {stage}"] = f"{row[f'seconds_{stage}']:.3g}"
    return cells | {"peak memory": size(row["peak_bytes"]), "busy before": f"{max(row['busy_before']):.0%}"}


def scaling_tables(rows: Iterable[Row]) -> Group:
    """Return whole runs by number of replicas, a table per shape and dtype, with a bar per rate over the ideal one."""
    by_work: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_work[row["shape"], row["dtype"]].append(row)
    return Group(*(_scaling_table(shape, dtype, shown) for (shape, dtype), shown in by_work.items()))


def _scaling_table(shape: str, dtype: str, rows: list[Row]) -> PlainTable:
    title = f"{shape}, {dtype}: units/s while predicting, median [min, max]"
    columns = [*_right("replicas", "threads", "rate", "of ideal", "busy before"), Column("rate and ideal", ratio=1)]
    table = PlainTable(*columns, title=title, expand=True)
    longest = max(max(row["units_per_second"], row["ideal_units_per_second"]) for row in rows)
    for row in rows:
        rate, ideal = row["units_per_second"], row["ideal_units_per_second"]
        table.add_row(
            str(row["replicas"]),
            str(row["threads"]),
            _median_and_range(row, "units_per_second"),
            f"{row['of_ideal']:.2f}",
            f"{max(row['busy_before']):.0%}",
            Group(Bar(longest, 0, rate), Bar(longest, 0, ideal, color="bright_black")),
        )
    return table


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _median_and_range(row: Row, name: str) -> str:
    least, greatest = row[f"{name}_range"]
    return f"{row[name]:.3g} [{least:.3g}, {greatest:.3g}]"

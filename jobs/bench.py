"""`perceiver bench`: the engine against transformers at the published shapes, in one process, turn by turn; with
`--pipeline` whole runs beside the engine alone and a plain script."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.table import Table

from jobs.cli_support import Device, Dtype, app, with_exit_code
from pipeline.formatting import size

TOKENIZER = "tokenizer"


def command(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Heads or published shapes, all by default; or tokenizer.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Of both.")] = "cpu",
    dtype: Annotated[list[Dtype] | None, typer.Option(help="float32 and bfloat16 by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each; medians are shown.")] = 5,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time: 1, with --pipeline as many as a replica takes.")
    ] = None,
    chunks: Annotated[int, typer.Option(min=1, max=128, help="Of a clip's 128 passes, how many are timed.")] = 2,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="Whole runs, beside the engine and a plain script of Ray Data.")
    ] = False,
    daft: Annotated[bool, typer.Option("--daft", help="With --pipeline: a plain script of Daft as well.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Whole runs with 1, 2, 4 … replicas, as many as CPUs or GPUs.")
    ] = False,
    small: Annotated[bool, typer.Option("--small", help="Of whole runs: a tenth of the parameters.")] = False,
    units: Annotated[int | None, typer.Option(min=1, help="Of whole runs: images, pairs or clips of each.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Time the engine against transformers, in the same dtype and in float32, on random weights of published shapes;
    or whole runs."""

    common: dict[str, Any] = {"device": device, "repeats": repeats, "chunks": chunks}
    common["dtypes"] = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]

    def body() -> None:
        if daft and not pipeline:
            raise typer.BadParameter("--daft goes with --pipeline")
        if daft and not find_spec("daft"):
            raise typer.BadParameter("--daft needs Daft: pip install 'perceiver-pipeline[daft]'")
        if pipeline and scaling:
            raise typer.BadParameter("--pipeline and --scaling are measured one at a time")
        if pipeline or scaling:
            whole = {"batch": batch_size, "small": small, "units": units, "daft": daft, **common}
            rows = _whole_runs(tasks or [], scaling=scaling, **whole)
            _show(rows, _replicas if scaling else _runs, as_json=as_json)
            return
        if small or units:
            raise typer.BadParameter("--small and --units go with --pipeline or --scaling")
        _engines(tasks or [], as_json=as_json, batch=batch_size or 1, **common)

    with_exit_code(body)


def _engines(tasks: list[str], *, as_json: bool, **options: Any) -> None:
    from pipeline.benchmark.engine import bench_all
    from pipeline.benchmark.timing import BenchOptions
    from pipeline.reference.published_configs import SHAPES

    names = [name for name in tasks if name != TOKENIZER]
    shapes = _named(names, SHAPES, TOKENIZER)
    if TOKENIZER in tasks:
        _bench_tokenizer(as_json=as_json)
        if not names:
            return
    _show(bench_all(shapes, BenchOptions(**options)), _table, as_json=as_json)


def _whole_runs(asked: list[str], *, scaling: bool, **options: Any) -> Iterator[dict[str, Any]]:
    from pipeline.benchmark.scaling import bench_scaling
    from pipeline.benchmark.whole_runs import bench_pipelines
    from pipeline.benchmark.workloads import MEASURED, ThroughputOptions

    bench = bench_scaling if scaling else bench_pipelines
    return bench(_named(asked, MEASURED), ThroughputOptions(**options))


def _show(
    rows: Iterable[dict[str, Any]], drawn: Callable[[Iterable[dict[str, Any]]], RenderableType], *, as_json: bool
) -> None:
    if not as_json:
        Console().print(drawn(rows))
        return
    for row in rows:
        print(json.dumps(row), flush=True)


def _bench_tokenizer(*, as_json: bool) -> None:
    from pipeline.benchmark.tokenizer import bench_tokenizer

    row = bench_tokenizer()
    if as_json:
        print(json.dumps(row), flush=True)
        return
    Console().print(
        f"tokenizer: {row['engine_texts_per_second']:,.0f} texts/s, PerceiverTokenizer "
        f"{row['transformers_texts_per_second']:,.0f}: {row['ratio']:.0f} times as fast, medians of batches of 1,000; "
        f"the same ids of all {row['texts']:,} texts of {row['mean_bytes']:,.0f} bytes on average",
        highlight=False,
    )


def _named(asked: list[str], among: Iterable[str], *others: str) -> list[str]:
    """The published shapes that the words name: a shape, or a head and all of its shapes; all where there is none."""
    from pipeline.reference.published_configs import SHAPES
    from pipeline.runtime.errors import UsageError

    by_word: dict[str, list[str]] = defaultdict(list)
    for name in among:
        by_word[name].append(name)
        by_word[SHAPES[name].task].append(name)
    if unknown := [word for word in asked if word not in by_word]:
        raise UsageError(f"{unknown[0]!r} is none of {', '.join(sorted({*by_word, *others}))}")
    return list(dict.fromkeys(name for word in asked for name in by_word[word])) or list(among)


def _table(rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(title="seconds a unit: median \\[least, greatest]", title_justify="left")
    left = ("shape", "dtype")
    right = ("engine", "transformers", "ratio", "over float32", "of the floor", "greatest error", "peak")
    for column in (*left, *right):
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        same, full = row["transformers_seconds"], row["transformers_float32_seconds"]
        table.add_row(
            row["shape"],
            row["dtype"],
            _spread(row, "engine"),
            _spread(row, "transformers") if same else "fails",
            f"{same / row['engine_seconds']:.2f}" if same else "-",
            f"{full / row['engine_seconds']:.2f}",
            f"{row['floor_seconds'] / row['engine_seconds']:.2f}",
            f"{row['max_abs_err'] / row['output_range']:.1e} of the range",
            size(row["peak_bytes"]),
        )
    return table


def _runs(rows: Iterable[dict[str, Any]]) -> Table:
    """Whole runs, a column each. Where others were busy before a turn, the numbers are of them too."""
    table = Table("units a second", title="while predicting: median \\[least, greatest]", title_justify="left")
    told = []
    for row in rows:
        table.add_column(f"{row['shape']}\n{row['dtype']}", justify="right")
        told.append(_told(row))
    for line in told[0] if told else ():
        table.add_row(line, *(column[line] for column in told))
    return table


def _told(row: dict[str, Any]) -> dict[str, str]:
    """A row of whole runs in words. What was extrapolated has a ~, and what had to be in another dtype says so."""
    about = "~" if row["extrapolated_from_chunks"] else ""
    other = f" in {row['plain_ray_dtype']}" if row["plain_ray_dtype"] != row["dtype"] else ""
    told = {
        "units": str(row["units"]),
        "engine": _rate(row, "engine"),
        "pipeline": _rate(row, "pipeline"),
        "of the engine": f"{row['of_the_engine']:.2f}",
    }
    for who, name in (("plain_ray", "Ray Data"), ("plain_daft", "Daft")):
        there = row[f"{who}_units_per_second"] is not None
        told[f"plain {name}"] = f"{about}{_rate(row, who)}{other}" if there else "-"
        told[f"over plain {name}"] = f"{about}{row[f'over_{who}']:.2f}" if there else "-"
    for stage in ("start", "model", "load", "predict", "write", "whole"):
        told[f"seconds, {stage}"] = f"{row[f'seconds_{stage}']:.3g}"
    return told | {"peak memory": size(row["peak_bytes"]), "busy before": f"{max(row['busy_before']):.0%}"}


def _replicas(rows: Iterable[dict[str, Any]]) -> Group:
    """Whole runs by the number of replicas, a table for each shape and dtype: each rate is drawn above the ideal."""
    by_work: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_work[row["shape"], row["dtype"]].append(row)
    tables = []
    for (shape, dtype), shown in by_work.items():
        title = f"{shape}, {dtype}: units a second while predicting, median \\[least, greatest]"
        table = Table(title=title, title_justify="left", expand=True)
        for column in ("replicas", "threads", "rate", "of ideal", "busy before"):
            table.add_column(column, justify="right")
        table.add_column("rate, and the ideal", ratio=1)
        most = max(max(row["units_per_second"], row["ideal_units_per_second"]) for row in shown)
        for row in shown:
            table.add_row(
                str(row["replicas"]),
                str(row["threads"]),
                _rate(row),
                f"{row['of_ideal']:.2f}",
                f"{max(row['busy_before']):.0%}",
                Group(
                    Bar(most, 0, row["units_per_second"]),
                    Bar(most, 0, row["ideal_units_per_second"], color="bright_black"),
                ),
            )
        tables.append(table)
    return Group(*tables)


def _rate(row: dict[str, Any], who: str | None = None) -> str:
    """Median, least and greatest of who there is, or of the only one."""
    name = f"{who}_units_per_second" if who else "units_per_second"
    least, greatest = row[f"{name}_range"]
    return f"{row[name]:.3g} [{least:.3g}, {greatest:.3g}]"


def _spread(row: dict[str, Any], who: str) -> str:
    least, greatest = row[f"{who}_seconds_range"]
    return f"{row[f'{who}_seconds']:.3g} [{least:.3g}, {greatest:.3g}]"


if __name__ == "__main__":
    app(command)()

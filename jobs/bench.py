"""`perceiver bench`: the engine against transformers at the published shapes, in one process, turn by turn; with
`--pipeline` whole runs beside the engine alone and a plain script."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.command import Device, Dtype, app, with_exit_code
from jobs.words import size

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
    small: Annotated[bool, typer.Option("--small", help="With --pipeline: a tenth of the parameters.")] = False,
    units: Annotated[int | None, typer.Option(min=1, help="With --pipeline: images, pairs or clips of a run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Time the engine against transformers, in the same dtype and in float32, on random weights of published shapes;
    or whole runs."""

    common: dict[str, Any] = {"device": device, "repeats": repeats, "chunks": chunks}
    common["dtypes"] = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]

    def body() -> None:
        if pipeline:
            _show(_pipelines(tasks or [], batch=batch_size, small=small, units=units, **common), _runs, as_json=as_json)
            return
        if small or units:
            raise typer.BadParameter("--small and --units go with --pipeline")
        _engines(tasks or [], as_json=as_json, batch=batch_size or 1, **common)

    with_exit_code(body)


def _engines(tasks: list[str], *, as_json: bool, **options: Any) -> None:
    from pipeline.reference.bench import bench_all
    from pipeline.reference.contest import BenchOptions

    names = [name for name in tasks if name != TOKENIZER]
    shapes = _shapes(names)
    if TOKENIZER in tasks:
        _bench_tokenizer(as_json=as_json)
        if not names:
            return
    _show(bench_all(shapes, BenchOptions(**options)), _table, as_json=as_json)


def _pipelines(asked: list[str], **options: Any) -> Iterator[dict[str, Any]]:
    from pipeline.reference.shapes import SHAPES
    from pipeline.runtime.errors import UsageError
    from pipeline.throughput.bench import MEASURED, ThroughputOptions, bench_pipelines

    words = {word: name for name in MEASURED for word in (name, SHAPES[name].task)}
    if unknown := [word for word in asked if word not in words]:
        raise UsageError(f"{unknown[0]!r} is none of {', '.join(sorted(words))}, whose runs are measured")
    names = list(dict.fromkeys(words[word] for word in asked)) or list(MEASURED)
    return bench_pipelines(names, ThroughputOptions(**options))


def _show(rows: Iterable[dict[str, Any]], table: Callable[[Iterable[dict[str, Any]]], Table], *, as_json: bool) -> None:
    if not as_json:
        Console().print(table(rows))
        return
    for row in rows:
        print(json.dumps(row), flush=True)


def _bench_tokenizer(*, as_json: bool) -> None:
    from pipeline.reference.tokenizing import bench_tokenizer

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


def _shapes(asked: list[str]) -> list[str]:
    """The published shapes that the words name: a shape, or a head and all of its shapes."""
    from pipeline.reference.shapes import SHAPES
    from pipeline.runtime.errors import UsageError

    names = []
    for word in asked:
        found = [name for name, shape in SHAPES.items() if word in (name, shape.task)]
        if not found:
            known = sorted({*SHAPES, *(shape.task for shape in SHAPES.values()), TOKENIZER})
            raise UsageError(f"{word!r} is none of {', '.join(known)}")
        names += found
    return list(dict.fromkeys(names)) or list(SHAPES)


def _table(rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(title="seconds a unit: median [least, greatest]", title_justify="left")
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
    """Whole runs. What was extrapolated has a ~, and what had to be in another dtype says so. Where others were busy
    before a turn, the numbers are of them too."""
    table = Table(title="units a second while predicting: median [least, greatest]", title_justify="left")
    left = ("shape", "dtype", "units")
    right = ("engine", "pipeline", "of the engine", "plain Ray Data", "over plain", "start", "model", "load")
    for column in (*left, *right, "predict", "write", "whole", "plain whole", "peak", "busy before"):
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        about = "~" if row["extrapolated_from_chunks"] else ""
        other = f" in {row['plain_ray_dtype']}" if row["plain_ray_dtype"] != row["dtype"] else ""
        stages = ("start", "model", "load", "predict", "write", "whole")
        table.add_row(
            row["shape"],
            row["dtype"],
            str(row["units"]),
            _rate(row, "engine"),
            _rate(row, "pipeline"),
            f"{row['of_the_engine']:.2f}",
            f"{about}{_rate(row, 'plain_ray')}{other}",
            f"{about}{row['over_plain_ray']:.2f}",
            *(f"{row[f'seconds_{stage}']:.3g} s" for stage in stages),
            f"{about}{row['plain_ray_seconds_whole']:.3g} s",
            size(row["peak_bytes"]),
            f"{max(row['busy_before']):.0%}",
        )
    return table


def _rate(row: dict[str, Any], who: str) -> str:
    least, greatest = row[f"{who}_units_per_second_range"]
    return f"{row[f'{who}_units_per_second']:.3g} [{least:.3g}, {greatest:.3g}]"


def _spread(row: dict[str, Any], who: str) -> str:
    least, greatest = row[f"{who}_seconds_range"]
    return f"{row[f'{who}_seconds']:.3g} [{least:.3g}, {greatest:.3g}]"


if __name__ == "__main__":
    app(command)()

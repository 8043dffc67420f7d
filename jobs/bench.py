"""`perceiver bench`: the engine against transformers at the published shapes, in one process, turn by turn."""

import json
from collections.abc import Iterable
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
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    chunks: Annotated[int, typer.Option(min=1, max=128, help="Of a clip's 128 passes, how many are timed.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Time the engine against transformers, in the same dtype and in float32, on random weights of published shapes."""

    def body() -> None:
        from pipeline.reference.bench import bench_all
        from pipeline.reference.contest import BenchOptions

        names = [name for name in tasks or [] if name != TOKENIZER]
        shapes = _shapes(names)
        if TOKENIZER in (tasks or []):
            _bench_tokenizer(as_json=as_json)
            if not names:
                return
        dtypes = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]
        options = BenchOptions(device=device, dtypes=dtypes, repeats=repeats, batch=batch_size, chunks=chunks)
        rows = bench_all(shapes, options)
        if as_json:
            for row in rows:
                print(json.dumps(row), flush=True)
        else:
            Console().print(_table(rows))

    with_exit_code(body)


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


def _spread(row: dict[str, Any], who: str) -> str:
    least, greatest = row[f"{who}_seconds_range"]
    return f"{row[f'{who}_seconds']:.3g} [{least:.3g}, {greatest:.3g}]"


if __name__ == "__main__":
    app(command)()

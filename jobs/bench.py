"""`perceiver bench`: the engine against transformers, or whole runs against the engine and plain scripts."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from jobs.cli_support import Device, Dtype, app, with_exit_code
from pipeline.runtime.errors import UsageError

TOKENIZER = "tokenizer"
_whole_runs = partial(typer.Option, metavar="", rich_help_panel="Whole runs")


def command(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASKS", help="Tasks, published checkpoints or tokenizer. Default: all.", show_default=False
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Device of the engine and transformers.")] = "cpu",
    dtype: Annotated[
        list[Dtype] | None, typer.Option(metavar="DTYPE", help="Precision. Repeatable. Default: float32 and bfloat16.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Number of measurements; medians are shown.")] = 5,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Images per batch. Default: 1; with --pipeline or --scaling: auto."),
    ] = None,
    chunks: Annotated[
        int,
        typer.Option(min=1, max=128, metavar="N", help="Time transformers on this many of the 128 chunks of a clip."),
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object per line.")] = False,
    pipeline: Annotated[
        bool, _whole_runs("--pipeline", help="Time whole runs, the engine alone and a plain Ray Data script.")
    ] = False,
    daft: Annotated[bool, _whole_runs("--daft", help="With --pipeline: time a plain Daft script as well.")] = False,
    scaling: Annotated[
        bool,
        _whole_runs("--scaling", help="Time whole runs with 1, 2, 4 … replicas, up to the number of CPUs or GPUs."),
    ] = False,
    small: Annotated[bool, _whole_runs("--small", help="Use models with a tenth of the parameters.")] = False,
    units: Annotated[
        int | None, _whole_runs("--units", min=1, help="Number of images, frame pairs or clips per run.")
    ] = None,
) -> None:
    """Time the engine against transformers, or whole runs against plain scripts.

    Models have the published shapes and random weights; speed does not depend on the weights.

    Examples:

    perceiver bench optical-flow --device cuda

    perceiver bench image-classification --pipeline --small

    perceiver bench image-classification --scaling
    """
    options: dict[str, Any] = {"device": device, "repeats": repeats, "chunks": chunks}
    options["dtypes"] = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]

    def body() -> None:
        if daft and not pipeline:
            raise typer.BadParameter("--daft requires --pipeline")
        if daft and not find_spec("daft"):
            raise typer.BadParameter("--daft requires Daft: pip install 'perceiver-pipeline[daft]'")
        if pipeline and scaling:
            raise typer.BadParameter("--pipeline and --scaling cannot be combined; run one after the other")
        if (small or units) and not (pipeline or scaling):
            raise typer.BadParameter("--small and --units require --pipeline or --scaling")
        if pipeline or scaling:
            whole = {"batch": batch_size, "small": small, "units": units, "daft": daft}
            _bench_whole_runs(tasks or [], scaling=scaling, as_json=as_json, **options, **whole)
        else:
            _bench_engine(tasks or [], as_json=as_json, batch=batch_size or 1, **options)

    with_exit_code(body)


def _bench_engine(tasks: list[str], *, as_json: bool, **options: Any) -> None:
    from pipeline.benchmark.engine import BenchOptions, bench_all
    from pipeline.benchmark.tables import engine_table, tokenizer_line
    from pipeline.benchmark.tokenizer import bench_tokenizer
    from pipeline.reference.published_configs import SHAPES

    shapes = _shapes_named([name for name in tasks if name != TOKENIZER], SHAPES, TOKENIZER)
    if TOKENIZER in tasks:
        _show([bench_tokenizer()], lambda rows: "\n".join(map(tokenizer_line, rows)), as_json=as_json)
    if set(tasks) != {TOKENIZER}:
        _show(bench_all(shapes, BenchOptions(**options)), engine_table, as_json=as_json)


def _bench_whole_runs(tasks: list[str], *, scaling: bool, as_json: bool, **options: Any) -> None:
    from pipeline.benchmark.scaling import bench_scaling
    from pipeline.benchmark.tables import scaling_tables, whole_runs_table
    from pipeline.benchmark.whole_runs import bench_pipelines
    from pipeline.benchmark.workloads import MEASURED, ThroughputOptions

    bench, show = (bench_scaling, scaling_tables) if scaling else (bench_pipelines, whole_runs_table)
    rows = bench(_shapes_named(tasks, MEASURED), ThroughputOptions(**options))
    _show(rows, show, as_json=as_json)


def _show(
    rows: Iterable[dict[str, Any]],
    as_table: Callable[[Iterable[dict[str, Any]]], RenderableType],
    *,
    as_json: bool,
) -> None:
    if not as_json:
        Console().print(as_table(rows), highlight=False)
        return
    for row in rows:
        print(json.dumps(row), flush=True)


def _shapes_named(words: Sequence[str], shapes: Iterable[str], *others: str) -> list[str]:
    """Return the published shapes that the words name: a shape, or all shapes of a task; all without words."""
    from pipeline.reference.published_configs import SHAPES

    shapes = list(shapes)
    tasks = [SHAPES[name].task for name in shapes]
    choices = sorted({*shapes, *tasks, *others})
    if unknown := [word for word in words if word not in choices]:
        raise UsageError(f"{unknown[0]!r} must be one of {', '.join(choices)}")
    named = [name for word in words for name, task in zip(shapes, tasks, strict=True) if word in (name, task)]
    return list(dict.fromkeys(named)) or shapes


if __name__ == "__main__":
    app(command)()

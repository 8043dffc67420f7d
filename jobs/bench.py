"""`perceiver bench`: the engine against transformers, or whole runs against the engine and plain scripts."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType

from jobs.cli_support import Device, Dtype, app
from pipeline.formatting import did_you_mean
from pipeline.runtime.errors import UsageError
from pipeline.terminal import plain, print_line, print_table

if TYPE_CHECKING:
    from pipeline.benchmark.engine import BenchOptions
    from pipeline.benchmark.timing import Row
    from pipeline.reference.published_configs import Shape

TOKENIZER = "tokenizer"
_number = partial(typer.Option, min=1, max=1_000_000, metavar="N")
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
    repeats: Annotated[int, _number(help="Number of measurements; medians are shown.")] = 5,
    batch_size: Annotated[
        int | None, _number(help="Images per batch. Default: 1; with --pipeline or --scaling: auto.")
    ] = None,
    chunks: Annotated[int, _number(max=128, help="Time transformers on this many of the 128 chunks of a clip.")] = 2,
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
        int | None, _whole_runs("--units", min=1, max=1_000_000, help="Number of images, frame pairs or clips per run.")
    ] = None,
) -> None:
    """Time the engine against transformers, or whole runs against plain scripts.

    Models have the published shapes and random weights; speed does not depend on the weights.

    Examples:

    perceiver bench optical-flow --device cuda

    perceiver bench image-classification --pipeline --small

    perceiver bench image-classification --scaling
    """
    if daft and not pipeline:
        raise typer.BadParameter("--daft requires --pipeline")
    if daft and not find_spec("daft"):
        raise typer.BadParameter("--daft requires Daft: pip install 'perceiver-pipeline[daft]'")
    if pipeline and scaling:
        raise typer.BadParameter("--pipeline and --scaling cannot be combined; run one after the other")
    if (small or units) and not (pipeline or scaling):
        raise typer.BadParameter("--small and --units require --pipeline or --scaling")
    from pipeline.benchmark.engine import BenchOptions

    options = BenchOptions(
        device=device,
        dtypes=dtype or [Dtype.FLOAT32, Dtype.BFLOAT16],
        repeats=repeats,
        batch=batch_size,
        chunks=chunks,
        units=units,
        small=small,
        daft=daft,
    )
    if pipeline or scaling:
        _bench_whole_runs(tasks or [], options, scaling=scaling, as_json=as_json)
    else:
        _bench_engine(tasks or [], options, as_json=as_json)


def _bench_engine(tasks: list[str], options: "BenchOptions", *, as_json: bool) -> None:
    from pipeline.benchmark.engine import bench
    from pipeline.benchmark.tables import engine_table, tokenizer_line
    from pipeline.benchmark.tokenizer import bench_tokenizer
    from pipeline.reference.published_configs import SHAPES

    shapes = _shapes_named([name for name in tasks if name != TOKENIZER], SHAPES, TOKENIZER)
    if TOKENIZER in tasks:
        _show([bench_tokenizer()], lambda rows: Group(*(plain(tokenizer_line(row)) for row in rows)), as_json=as_json)
    if set(tasks) != {TOKENIZER}:
        _show((row for shape in shapes for row in bench(shape, options)), engine_table, as_json=as_json)


def _bench_whole_runs(tasks: list[str], options: "BenchOptions", *, scaling: bool, as_json: bool) -> None:
    from pipeline.benchmark.scaling import bench_scaling
    from pipeline.benchmark.tables import scaling_tables, whole_runs_table
    from pipeline.benchmark.whole_runs import bench_pipeline
    from pipeline.benchmark.workloads import MEASURED

    shapes = [shape.smaller() if options.small else shape for shape in _shapes_named(tasks, MEASURED)]
    bench, show = (bench_scaling, scaling_tables) if scaling else (bench_pipeline, whole_runs_table)
    _show((row for shape in shapes for row in bench(shape, options)), show, as_json=as_json)


def _show(rows: Iterable["Row"], as_table: Callable[[Iterable["Row"]], RenderableType], *, as_json: bool) -> None:
    if not as_json:
        print_table(as_table(rows))
        return
    for row in rows:
        print_line(json.dumps(row))


def _shapes_named(words: Sequence[str], names: Iterable[str], *others: str) -> list["Shape"]:
    """Return the published shapes that the words name: a shape, or all shapes of a task; all without words."""
    from pipeline.reference.published_configs import SHAPES

    shapes = [SHAPES[name] for name in names]
    choices = sorted({*others, *(word for shape in shapes for word in (shape.name, shape.task))})
    if unknown := [word for word in words if word not in choices]:
        raise UsageError(f"{unknown[0]!r} must be one of {', '.join(choices)}{did_you_mean(unknown[0], choices)}")
    named = {shape.name: shape for word in words for shape in shapes if word in (shape.name, shape.task)}
    return list(named.values()) or shapes


if __name__ == "__main__":
    app(command)()

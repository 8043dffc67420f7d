"""`perceiver verify`: compare the engine with transformers for the user's own checkpoint."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column

from jobs.cli_support import Device, Dtype, app
from pipeline.formatting import did_you_mean
from pipeline.terminal import PlainTable, print_table

if TYPE_CHECKING:
    from pipeline.reference.parity import Difference


def command(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task, or feature-extraction for the latents of any checkpoint.")
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            metavar="REF", help="Hugging Face Hub id, folder or URI with config.json and the weights, or demo."
        ),
    ],
    dtype: Annotated[
        list[Dtype] | None,
        typer.Option(metavar="DTYPE", help="Precision of the engine. Repeatable. Default: float32 and bfloat16."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Number of sample units.")] = 1,
    chunks: Annotated[
        int, typer.Option(min=1, max=128, metavar="N", help="Compare this many of the 128 chunks of a clip.")
    ] = 3,
    device: Annotated[Device, typer.Option(help="Device of both models.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Seed of the random sample units.")] = 0,
) -> None:
    """Show the greatest difference between the engine and transformers, per output.

    transformers runs in float32. A float32 engine is also compared with itself without weight folding.

    Example:

    perceiver verify image-classification --checkpoint models/my-perceiver
    """
    from pipeline.reference.parity import verify
    from pipeline.reference.published_configs import TASKS
    from pipeline.runtime.errors import UsageError

    if task not in TASKS:
        raise UsageError(f"task {task!r} must be one of {', '.join(TASKS)}{did_you_mean(task, TASKS)}")
    dtypes = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]
    rows = verify(task, checkpoint, dtypes=dtypes, batch=batch_size, chunks=chunks, device=device, seed=seed)
    print_table(_table(task, rows))


def _table(task: str, rows: list["Difference"]) -> PlainTable:
    numbers = [Column(name, justify="right") for name in ("greatest difference", "range of the output", "of the range")]
    title = f"{task}: engine compared with float32"
    table = PlainTable("output", "dtype", "against", *numbers, title=title)
    for row in rows:
        figures = f"{row.max_abs_diff:.2e}", f"{row.range:.3g}", f"{row.relative:.2e}"
        table.add_row(row.output, row.dtype, row.against, *figures)
    return table


if __name__ == "__main__":
    app(command)()

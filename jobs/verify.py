"""`perceiver verify`: the engine against transformers on the same inputs, for the user's own checkpoint."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from jobs.cli_support import Device, Dtype, app, with_exit_code

if TYPE_CHECKING:
    from pipeline.reference.parity import Difference


def command(
    task: Annotated[str, typer.Argument(help="The head, or feature-extraction for the latents of any checkpoint.")],
    checkpoint: Annotated[str, typer.Option(help="A hub id, a folder or a URI with config.json and weights.")],
    dtype: Annotated[list[Dtype] | None, typer.Option(help="Of the engine; float32 and bfloat16 by default.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sample units.")] = 1,
    chunks: Annotated[int, typer.Option(min=1, max=128, help="Of a clip's 128 passes in transformers.")] = 3,
    device: Annotated[Device, typer.Option(help="Of both.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the sample units.")] = 0,
) -> None:
    """Say the greatest difference between the engine and transformers in float32, for every output; in float32 also
    between the engine and itself without the products of weights that it forms when it loads a checkpoint."""

    def body() -> None:
        from pipeline.reference.parity import verify
        from pipeline.reference.published_configs import TASKS
        from pipeline.runtime.errors import UsageError

        if task not in TASKS:
            raise UsageError(f"task {task!r} is none of {', '.join(TASKS)}")
        dtypes = dtype or [Dtype.FLOAT32, Dtype.BFLOAT16]
        rows = verify(task, checkpoint, dtypes=dtypes, batch=batch_size, chunks=chunks, device=device, seed=seed)
        Console().print(_table(task, rows))

    with_exit_code(body)


def _table(task: str, rows: list["Difference"]) -> Table:
    table = Table(title=f"{task}: engine against others in float32", title_justify="left")
    for column in ("output", "dtype", "against", "greatest difference", "range of the output", "of the range"):
        table.add_column(column, justify="left" if column in ("output", "dtype", "against") else "right")
    for row in rows:
        table.add_row(
            row.output, row.dtype, row.against, f"{row.max_abs_diff:.2e}", f"{row.range:.3g}", f"{row.relative:.2e}"
        )
    return table


if __name__ == "__main__":
    app(command)()

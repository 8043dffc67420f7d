"""`perceiver demo`: run every task on real samples with random checkpoints, without any download."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from jobs.cli_support import app
from pipeline.formatting import count, duration
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage.uris import normalise_uri, split_scheme

if TYPE_CHECKING:
    from pipeline.reference.demo_data import Demo

ROWS = 4  # shown per task


def command(
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Local folder for samples, checkpoints and predictions.")
    ] = "demo-output",
) -> None:
    """Run every task on a few images, texts and a video, without any download.

    The weights are random, so the predictions are meaningless.

    Example:

    perceiver demo demo-output
    """
    from pipeline.reference.demo_data import DEMOS, make_samples
    from pipeline.runtime.ray_backend.connect import ray_connection

    scheme, path = split_scheme(normalise_uri(output))
    if scheme is not None:
        raise UsageError(f"{output} is not a local folder; the demo writes to this machine only")
    console, folder = Console(), Path(path)
    try:
        make_samples(folder / "samples")
    except ImportError as error:
        raise UsageError("the demo requires scikit-image: pip install 'perceiver-pipeline[demo]'") from error
    with ray_connection(None):
        for demo in DEMOS:
            _run(console, demo, folder)
    console.print(
        "The weights are random, so these predictions are meaningless. Give `perceiver run` a trained checkpoint.",
        highlight=False,
    )


def _run(console: Console, demo: "Demo", output: Path) -> None:
    from pipeline.runtime.driver.run import execute

    options = RunOptions(
        task=demo.task,
        input=str(output / "samples" / demo.samples),
        output=str(output / demo.task),
        checkpoint=str(demo.checkpoint(output / "checkpoints")),
        **demo.options,
    )
    summary = execute(options)
    done = f"{count(summary.rows)} rows, {count(summary.quarantined)} quarantined, {duration(summary.seconds)}"
    console.print(_table(f"{demo.task}: {done}", output / demo.task, _DESCRIBE[demo.task]))


def _table(title: str, output: Path, describe: Callable[[Mapping[str, Any]], str]) -> Table:
    """Return the first predictions and all quarantined units of an OUTPUT."""
    import pyarrow.dataset as ds

    table = Table(title=title, title_justify="left", show_header=False)
    for row in ds.dataset(output / "predictions", format="parquet").head(ROWS).to_pylist():
        table.add_row(row["id"], describe(row))
    if (output / "quarantine").is_dir():
        for row in ds.dataset(output / "quarantine", format="parquet").to_table().to_pylist():
            table.add_row(row["id"], f"[red]{row['error']}[/] {row['message']}")
    return table


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['label']} {row['score']:.3f}"


def _flow(row: Mapping[str, Any]) -> str:
    pixels = np.array(row["flow"], np.float32).reshape(row["height"], row["width"], 2)
    size = f"{row['width']} by {row['height']}"
    return f"{row['start_seconds']:.2f} s, {size}: mean flow {np.abs(pixels).mean():.2f} pixels"


def _clip(row: Mapping[str, Any]) -> str:
    return f"{_label(row)}, video {row['video_psnr_db']:.1f} dB, audio {row['audio_psnr_db']:.1f} dB"


_DESCRIBE: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "image-classification": _label,
    "text-classification": _label,
    "fill-mask": lambda row: str(row["filled"]),
    "optical-flow": _flow,
    "multimodal-autoencoding": _clip,
    "feature-extraction": lambda row: f"{len(row['embedding'])} values",
}


if __name__ == "__main__":
    app(command)()

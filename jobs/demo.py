"""`perceiver demo`: every head on real samples, with checkpoints made on the spot: nothing is downloaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from jobs.cli_support import app, with_exit_code
from pipeline.formatting import count, duration
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage.uris import normalise_uri, split_scheme

if TYPE_CHECKING:
    from pipeline.reference.demo_data import Demo

ROWS = 4  # of each head that are shown


def command(
    output: Annotated[str, typer.Argument(help="Folder for all of it, on this machine.")] = "demo-output",
) -> None:
    """Run every head on a few pictures, texts and a video. The weights are random: what they predict means nothing."""
    with_exit_code(lambda: _demo(_folder(output)))


def _folder(output: str) -> Path:
    scheme, path = split_scheme(normalise_uri(output))
    if scheme is not None:
        raise UsageError(f"the demo writes to a folder of this machine, and {output} is none")
    return Path(path)


def _demo(output: Path) -> None:
    from pipeline.reference.demo_data import DEMOS, make_samples
    from pipeline.runtime.ray_backend.cluster import connected

    console = Console()
    try:
        make_samples(output / "samples")
    except ImportError as error:
        raise UsageError("the demo needs scikit-image: pip install 'perceiver-pipeline[demo]'") from error
    with connected(None):
        for demo in DEMOS:
            _run(console, demo, output)
    console.print(
        "The weights are random, so what they predict means nothing; a published checkpoint goes in their place.",
        highlight=False,
    )


def _run(console: Console, demo: "Demo", output: Path) -> None:
    from pipeline.runtime.driver.run import execute

    options = RunOptions(
        task=demo.task,
        input=str(output / "samples" / demo.samples),
        output=str(output / demo.task),
        checkpoint=str(demo.checkpoint(output / "checkpoints")),
        **demo.asked,
    )
    summary = execute(options)
    done = f"{count(summary.rows)} rows, {count(summary.quarantined)} quarantined, {duration(summary.seconds)}"
    console.print(_table(f"{demo.task}: {done}", output / demo.task, _SHOWN[demo.task]))


def _table(title: str, output: Path, shown: Callable[[Mapping[str, Any]], str]) -> Table:
    """What was predicted and what was not, from the parts themselves."""
    import pyarrow.dataset as ds

    table = Table(title=title, title_justify="left", show_header=False)
    rows = ds.dataset(output / "predictions", format="parquet").head(ROWS).to_pylist()
    for row in rows:
        table.add_row(row["id"], shown(row))
    if (output / "quarantine").is_dir():
        for row in ds.dataset(output / "quarantine", format="parquet").to_table().to_pylist():
            table.add_row(row["id"], f"[red]{row['error']}[/] {row['message']}")
    return table


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['label']} {row['score']:.3f}"


def _flow(row: Mapping[str, Any]) -> str:
    pixels = np.array(row["flow"], np.float32).reshape(row["height"], row["width"], 2)
    return (
        f"{row['start_seconds']:.2f} s, {row['width']} by {row['height']}: {np.abs(pixels).mean():.2f} pixels a pixel"
    )


def _clip(row: Mapping[str, Any]) -> str:
    return f"{_label(row)}, video {row['video_psnr_db']:.1f} dB, sound {row['audio_psnr_db']:.1f} dB"


_SHOWN: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "image-classification": _label,
    "text-classification": _label,
    "fill-mask": lambda row: str(row["filled"]),
    "optical-flow": _flow,
    "multimodal-autoencoding": _clip,
    "feature-extraction": lambda row: f"{len(row['embedding'])} numbers",
}


if __name__ == "__main__":
    app(command)()

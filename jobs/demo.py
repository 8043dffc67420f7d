"""`perceiver demo`: real pictures through a head, with a checkpoint made on the spot: nothing is downloaded."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jobs.command import app, with_exit_code
from jobs.words import count, duration
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions

PICTURE_TYPES = (".png", ".jpg", ".tif", ".gif")


def command(
    output: Annotated[Path, typer.Argument(help="Folder for all of it.")] = Path("demo-output"),
) -> None:
    """Label scikit-image's photographs with a small checkpoint. Its weights are random: the labels mean nothing."""
    with_exit_code(lambda: _demo(output))


def _demo(output: Path) -> None:
    from pipeline.reference import shapes, weights
    from pipeline.runtime.run import execute

    console = Console()
    pictures = _sample_pictures(output / "pictures")
    checkpoint = output / "checkpoints" / "image-classification"
    if not (checkpoint / "config.json").exists():
        weights.make_checkpoint(shapes.FOURIER, shapes.small(shapes.FOURIER, num_labels=10), checkpoint)
    console.print(
        f"{pictures} pictures in {output / 'pictures'}, one of them damaged; a random checkpoint in {checkpoint}"
    )
    summary = execute(
        RunOptions(
            task="image-classification",
            input=str(output / "pictures"),
            output=str(output / "labels"),
            checkpoint=str(checkpoint),
            max_quarantine=0.2,
        )
    )
    console.print(_table(output / "labels"))
    console.print(
        f"{count(summary.rows)} rows, {count(summary.quarantined)} quarantined, {duration(summary.seconds)}. "
        "The weights are random, so the labels mean nothing; with a published checkpoint they name what is seen.\n"
        f"predictions: {output / 'labels' / 'predictions'}/*.parquet",
        highlight=False,
        soft_wrap=True,
    )


def _sample_pictures(folder: Path) -> int:
    """scikit-image's own photographs and one file cut short, in `folder`; how many there are."""
    try:
        import skimage.data
    except ImportError as error:
        raise UsageError("the demo needs scikit-image: pip install 'perceiver-pipeline[demo]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(p for p in Path(skimage.data.__file__).parent.iterdir() if p.suffix in PICTURE_TYPES)
    for picture in found:
        shutil.copyfile(picture, folder / picture.name)
    (folder / "damaged.jpg").write_bytes((folder / "rocket.jpg").read_bytes()[:5000])
    return len(found) + 1


def _table(output: Path) -> Table:
    """What was predicted and what was not, from the parts themselves."""
    import pyarrow.dataset as ds

    table = Table(title="id, label, score; then quarantine", title_justify="left")
    for column in ("id", "label", "score"):
        table.add_column(column)
    predictions = ds.dataset(output / "predictions", format="parquet").to_table(columns=["id", "label", "score"])
    for row in predictions.to_pylist():
        table.add_row(row["id"], row["label"], f"{row['score']:.3f}")
    if (output / "quarantine").is_dir():
        for row in ds.dataset(output / "quarantine", format="parquet").to_table().to_pylist():
            table.add_row(row["id"], f"[red]{row['error']}", row["message"])
    return table


if __name__ == "__main__":
    app(command)()

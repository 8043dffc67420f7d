"""Finished runs of small random checkpoints, each made once per test process: OUTPUTs for tests of what reads them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image
from rich.console import Console

from pipeline.reference.published_configs import FLOW, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.run import Summary, execute
from pipeline.runtime.options import RunOptions
from pipeline.sinks.parts import FOOTER
from tests.runs_in_process import use_this_process
from tests.sample_videos import make_video

CLIP = {"num_frames": 16, "audio_samples_per_frame": 160, "samples_per_patch": 16, "output_shape": [1, 16, 16, 16]}
IMAGES = (
    "birds/owl.png",
    "cats/a b.png",
    "cats/a#1.png",
    "cats/b.png",
    "cats/Ä.png",
    "dogs/c.jpg",
    "dogs/d.png",
    "e.png",
)


def run(task: str, source: Path, output: Path | str, checkpoint: Path, **options: Any) -> Summary:
    """Run in this process."""
    places = {"input": str(source), "output": str(output), "checkpoint": str(checkpoint)}
    with pytest.MonkeyPatch.context() as patch:
        use_this_process(patch)
        return execute(RunOptions(task=task, **places, **options), console=Console(file=io.StringIO()))


def image_run(folder: Path, checkpoint: Path) -> Path:
    """Classify IMAGES, parts of a photograph, four per part, and store latents; `dogs/bad.png` is damaged."""
    photograph = skimage.data.astronaut()
    for number, name in enumerate(IMAGES):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[40 * number : 40 * number + 48, 60:120]).save(path)
    (folder / "in/dogs/bad.png").write_bytes((folder / "in/e.png").read_bytes()[:60])
    options = {"latents": True, "top_k": 3, "shard_size": 4, "max_quarantine": 0.5}
    run("image-classification", folder / "in", folder / "out", checkpoint, **options)
    return folder / "out"


def flow_run(folder: Path, **options: Any) -> Path:
    """Predict the flow of two videos of 4 and 3 frames of 20 by 14 pixels."""
    for name, frames in {"drives/one.mp4": 4, "two.mp4": 3}.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_video(path, seconds=frames / 25, size=(20, 14))
    checkpoint = make_checkpoint(FLOW, small(FLOW), folder / "model")
    run("optical-flow", folder / "in", folder / "out", checkpoint, **options)
    return folder / "out"


def clip_run(folder: Path, **options: Any) -> Path:
    """Reconstruct two clips of a video with audio."""
    (folder / "in").mkdir()
    make_video(folder / "in/m.mp4", seconds=1.28, size=(24, 16), audio_rate=48_000)
    checkpoint = make_checkpoint(MULTIMODAL, small(MULTIMODAL, **CLIP), folder / "model")
    run("multimodal-autoencoding", folder / "in", folder / "out", checkpoint, **options)
    return folder / "out"


def copied_with_rows(output: Path, target: Path, change: Callable[[dict], dict]) -> Path:
    """Copy an OUTPUT, and replace each of its rows with what `change` returns for it."""
    shutil.copytree(output, target)
    for part in sorted((target / "predictions").iterdir()):
        table, footer = pq.read_table(part), pq.read_metadata(part).metadata[FOOTER]
        changed = pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=table.schema)
        with pq.ParquetWriter(part, table.schema) as file:
            file.write_table(changed)
            file.add_key_value_metadata({FOOTER: footer})
    return target

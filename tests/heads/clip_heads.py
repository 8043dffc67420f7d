"""Heads of small models of clips with audio, clips for them, and the rows that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch

from pipeline.heads import HeadOptions, head_for
from pipeline.heads.head import Head
from pipeline.media import Clip
from pipeline.perceiver import PerceiverIO

TASK = "multimodal-autoencoding"
NAMES = {0: "juggling", 1: "archery", 2: "yoga", 3: "surfing", 4: "welding"}
PHOTOGRAPHS = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
CLIP_COLUMNS = ("clip_index", "start_seconds", "end_seconds", "has_audio", "padded_frames")

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"id2label": NAMES},
    "wide": {"id2label": NAMES, "num_frames": 3, "output_shape": [1, 3, 12, 20]},
    # Frames, samples and patches of the published model, with smaller frames: transformers needs 128 passes.
    "long": {
        "id2label": NAMES,
        "num_frames": 16,
        "audio_samples_per_frame": 1920,
        "samples_per_patch": 16,
        "output_shape": [1, 16, 16, 16],
    },
}


def head_of(folder: Path, **options: Any) -> Head:
    return head_for(TASK, folder, HeadOptions(**options))


def clips(head: Head, count: int = 3) -> list[Clip]:
    """Return clips as a source reads them: moving photographs with a chord; the last one is silent and padded."""
    spec = head.clip_spec
    assert spec is not None
    made = []
    for number in range(count):
        image = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        moved = [np.roll(image, 9 * at, axis=1) for at in range(spec.frames)]
        seconds = np.arange(spec.samples) / spec.sample_rate
        chord = sum(np.sin(2 * np.pi * pitch * (1 + number) * seconds) for pitch in (300, 470)) / 2
        silent = number == count - 1
        made.append(
            Clip(
                frames=np.stack([spec.reduce(frame) for frame in moved]),
                samples=(np.zeros_like(seconds) if silent else chord).astype(np.float32),
                has_audio=not silent,
                clip_index=7 + number,
                start_seconds=0.64 * number,
                end_seconds=0.64 * (number + 1),
                padded_frames=int(silent),
            )
        )
    return made


def predicted(
    head: Head, folder: Path, media: Sequence[Clip], dtype: torch.dtype = torch.float32
) -> dict[str, list[Any]]:
    """Return the columns of the clips, as a replica computes them."""
    return rows_of(head, folder, [head.transform(medium) for medium in media], dtype)[0]


def rows_of(
    head: Head,
    folder: Path,
    units: Sequence[Mapping[str, np.ndarray]],
    dtype: torch.dtype = torch.float32,
    latents: torch.Tensor | None = None,
) -> tuple[dict[str, list[Any]], torch.Tensor]:
    """Return the columns, and the latents, of units from `transform` or `arrays_from_row`."""
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    with torch.inference_mode():
        inputs = head.collate({name: [unit[name] for unit in units] for name in units[0]})
        assert head.latents_per_unit(inputs) == [1] * len(units)
        if latents is None:
            latents = head.encode(model, inputs)
        rows = head.rows(head.decode(model, latents, inputs))
    assert list(rows) == list(head.columns)
    assert {len(column) for column in rows.values()} == {len(units)}
    return {name: list(column) for name, column in rows.items()}, latents


def assert_near(found: Any, expected: np.ndarray, share: float = 1e-5) -> None:
    """Assert equality up to a fraction `share` of the greatest expected value; expected values differ by much more."""
    atol = share * float(np.abs(expected).max())
    assert np.ptp(expected) > 1000 * atol
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


def psnr(found: np.ndarray, original: np.ndarray, peak: float) -> float:
    error = np.mean((found.astype(np.float64) - original.astype(np.float64)) ** 2)
    return float(20 * np.log10(peak) - 10 * np.log10(error))

"""Optical flow of real photographs that are shifted, turned and scaled by known amounts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PerceiverConfig

from pipeline.demo.matching import CHANNELS, DISPLACEMENTS, HEADS, SIDE, start_matching
from pipeline.demo.photographs import (
    DATA,
    HELD_OUT,
    LICENCE,
    TRAINED,
    grid,
    photograph,
    sample,
    shifted_frames,
    windows,
)
from pipeline.demo.recipe import Recipe
from pipeline.demo.training import Schedule
from pipeline.demo.trial import Answers, Rows, Trial
from pipeline.reference.published_configs import FLOW
from pipeline.reference.sample_inputs import frame_patches
from pipeline.results.unit_arrays import flow_array

PIXELS_PER_UNIT = 20.0
"""Pixels of displacement per unit of the model's output, as in the published checkpoint."""

TILE = (SIDE, SIDE)
_MARGIN = 12  # pixels around a tile, from which moved content comes
_BATCH, _POINTS = 16, 128
_GREATEST = 5.5  # pixels of the largest shift along an axis


def config() -> PerceiverConfig:
    """Return the configuration of the model."""
    return PerceiverConfig(
        train_size=list(TILE),
        num_latents=DISPLACEMENTS**2,
        d_latents=CHANNELS,
        num_blocks=1,
        num_self_attends_per_block=1,
        num_self_attention_heads=4,
        num_cross_attention_heads=HEADS,
        qk_channels=CHANNELS,
        v_channels=CHANNELS,
        attention_probs_dropout_prob=0.0,
    )


def random_pairs(names: Sequence[str], count: int, greatest: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return frames [count, 2, 3, h, w] in [0, 1] and the flow [count, h, w, 2] in pixels from the first to the second.

    greatest: pixels of the largest shift along an axis.
    """
    size = TILE[0] + 2 * _MARGIN, TILE[1] + 2 * _MARGIN
    images = windows(names, count, max(size), random)
    images = _recolored(images, random)
    places = grid(*TILE) - (torch.tensor(TILE[::-1]) - 1) / 2
    centre = torch.tensor([images.shape[3], images.shape[2]]).float() / 2 - 0.5
    first = _turns(count, 0.4, 0.15, random)
    change = _turns(count, 0.06, 0.04, random)
    change[torch.rand(count, generator=random) < 0.5] = torch.eye(2)  # half of the motions are shifts only
    shift = (torch.rand(count, 1, 1, 2, generator=random) * 2 - 1) * greatest
    flow = _apply(change - torch.eye(2), places.expand(count, *TILE, 2)) + shift
    # A pixel q of the second frame shows what the pixel p of the first does, if q = p + flow(p).
    back = _apply(torch.linalg.inv(change), places - shift)
    frames = [sample(images, centre + _apply(first, each)) for each in (places.expand(count, *TILE, 2), back)]
    return torch.stack(frames, dim=1), flow


def _turns(count: int, angle: float, scale: float, random: torch.Generator) -> Tensor:
    """Return matrices [count, 2, 2] that turn by up to `angle` radians and scale by up to 1 ± `scale`."""
    angles, scales = (torch.rand(2, count, generator=random) * 2 - 1) * torch.tensor([[angle], [scale]])
    cosine, sine = angles.cos() * (1 + scales), angles.sin() * (1 + scales)
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)


def _apply(matrices: Tensor, places: Tensor) -> Tensor:
    return torch.einsum("bij,bhwj->bhwi", matrices, places)


def _recolored(images: Tensor, random: torch.Generator) -> Tensor:
    """Change contrast, brightness and the order of colors of images [B, 3, H, W]."""
    contrast, light = torch.rand(2, len(images), 3, 1, 1, generator=random)
    order = torch.randperm(3, generator=random)
    return ((images[:, order] - 0.5) * (0.6 + 0.6 * contrast) + 0.4 + 0.2 * light).clamp(0, 1)


class FlowLoss:
    """Mean end-point error in pixels at random pixels of random pairs.

    What latents read of the frames stays as the start has it: to train that as well unsettles all that follows, and
    takes most of the time.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._names, self._random = names, torch.Generator().manual_seed(seed)

    def __call__(self, model: Any, step: int) -> Tensor:  # noqa: ARG002
        frames, flow = random_pairs(self._names, _BATCH, _GREATEST, self._random)
        frames = frames + 0.002 * torch.randn(frames.shape, generator=self._random)
        core = model.perceiver
        cross = core.encoder.cross_attention
        with torch.no_grad():
            inputs, _, _ = core.input_preprocessor(frame_patches(frames * 2 - 1))
            (read,) = cross.attention(core.embeddings(_BATCH), inputs=inputs)
        latents = read + cross.feed_forward_chunk(read)
        for layer in core.encoder.self_attends:
            latents = layer(latents)[0]
        chosen = torch.randperm(inputs.shape[1], generator=self._random)[:_POINTS]
        units = core.decoder.decoder(inputs[:, chosen], latents).logits / core.decoder.rescale_factor
        return (units * PIXELS_PER_UNIT - flow.flatten(1, 2)[:, chosen]).square().sum(-1).add(1e-4).sqrt().mean()


def write_held_out(folder: Path) -> dict[str, tuple[float, float]]:
    """Write 24 pairs of frames of held-out photographs, the second shifted by up to 5 pixels, as PNG files.

    Return the shifts (x, y) in pixels, by the name of the first frame.
    """
    random, answers = np.random.default_rng(3), {}
    for number in range(24):
        image = photograph(HELD_OUT[number % len(HELD_OUT)])
        shift = random.uniform(-5, 5, 2)
        pair = folder / f"pair-{number:02d}"
        pair.mkdir()
        for index, frame in enumerate(shifted_frames(image, (72, 96), shift, random.uniform(0, 1, 2), 2)):
            Image.fromarray(frame).save(pair / f"{index}.png")
        answers[f"{pair.name}/0.png"] = (float(shift[0]), float(shift[1]))
    return answers


def end_point_error(rows: Rows, answers: Answers) -> float:
    """Return the mean distance in pixels from the known shift, over all pixels of all frames."""
    errors = [np.linalg.norm(flow_array(row) - np.array(answers[row["id"]]), axis=-1).mean() for row in rows]
    return float(np.mean(errors))


RECIPE = Recipe(
    model_class=FLOW,
    config=config,
    start=start_matching,
    half=True,
    loss=lambda seed: FlowLoss(TRAINED, seed),
    schedule=Schedule(steps=2400, rate=3e-4, warm_up=30, decay=0.0),
    trial=Trial(
        task="optical-flow",
        write=write_held_out,
        score=end_point_error,
        bar=0.5,
        figure="pixels of end-point error on held-out photographs, shifted by up to 5 pixels",
        lower_is_better=True,
    ),
    data=DATA,
    licence=LICENCE,
)

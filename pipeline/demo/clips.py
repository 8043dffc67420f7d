"""Clips with audio: a real photograph that moves in one of four directions, and a chord.

The model reconstructs frames and audio, and names the direction in which the content moves.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.demo.local_attention import attend_locally, low_frequencies, pooled
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
from pipeline.reference.published_configs import MULTIMODAL
from pipeline.reference.sample_media import FPS, write_video

DIRECTIONS = ("left", "right", "up", "down")
"""Labels: where the content moves."""

FRAMES, SIDE, SAMPLES_PER_FRAME = 4, 32, 320
SAMPLE_RATE = 25 * SAMPLES_PER_FRAME
STEPS = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # x, y of each direction
_GRID = 16  # latents per side of a frame
_AUDIO_LATENTS = 20
_PATCH_CHANNELS = 3 * 4 * 4  # of the pixels of a patch; those of its position follow
_MARGIN = 12  # pixels around a frame, from which moved content comes
_BATCH, _PIXELS = 12, 256


def config() -> PerceiverConfig:
    """Return the configuration of the model."""
    return PerceiverConfig(
        num_frames=FRAMES,
        image_size=SIDE,
        output_shape=[1, FRAMES, SIDE, SIDE],
        audio_samples_per_frame=SAMPLES_PER_FRAME,
        samples_per_patch=16,
        output_num_channels=48,
        _label_trainable_num_channels=64,
        num_latents=_GRID * _GRID + _AUDIO_LATENTS,
        d_latents=96,
        qk_channels=64,
        v_channels=96,
        num_blocks=1,
        num_self_attends_per_block=2,
        num_self_attention_heads=4,
        num_cross_attention_heads=1,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(DIRECTIONS)),
        label2id={name: number for number, name in enumerate(DIRECTIONS)},
    )


def start_at_places(model: Any) -> None:
    """Let every latent of the frames and every output query attend to its surroundings at first."""
    image = model.perceiver.decoder.modalities["image"].decoder
    middle = torch.arange(SIDE * SIDE) + SIDE * SIDE * (FRAMES // 2)
    encoding = image.decoder_query(torch.zeros(1, 1, 1), subsampled_points=middle)[0]
    chosen = low_frequencies(3, 32, 16, 15)
    places = pooled(encoding.view(SIDE, SIDE, -1), SIDE // _GRID)[:, chosen]
    attend_locally(model, places, _PATCH_CHANNELS, _PATCH_CHANNELS + chosen, chosen)


def random_clips(names: Sequence[str], count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames [count, T, 3, h, w] in [0, 1], audio [count, S] in [-1, 1] and the numbers of the directions."""
    images = windows(names, count, SIDE + 2 * _MARGIN, random)
    labels = torch.randint(len(DIRECTIONS), (count,), generator=random)
    speed = 0.5 + 1.5 * torch.rand(count, 1, generator=random)  # pixels per frame
    frames = []
    for number in range(FRAMES):
        moved = (number - (FRAMES - 1) / 2) * speed * STEPS[labels]
        frames.append(sample(images, grid(SIDE, SIDE) + _MARGIN - moved[:, None, None]))
    return torch.stack(frames, dim=1), _chords(count, random), labels


def _chords(count: int, random: torch.Generator) -> Tensor:
    """Return the sum of three tones of 100 to 800 Hz, float32 [count, S]."""
    seconds = torch.arange(FRAMES * SAMPLES_PER_FRAME) / SAMPLE_RATE
    pitch, phase, loud = torch.rand(3, count, 3, 1, generator=random)
    waves = torch.sin(2 * math.pi * ((100 + 700 * pitch) * seconds + phase))
    return (0.3 * loud * waves).sum(dim=1)


class ClipLoss:
    """Squared errors of random pixels and patches of audio, and the cross-entropy of the label, of random clips."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._names, self._random = names, torch.Generator().manual_seed(seed)

    def __call__(self, model: Any, step: int) -> Tensor:  # noqa: ARG002
        frames, audio, labels = random_clips(self._names, _BATCH, self._random)
        pixels = torch.randperm(FRAMES * SIDE * SIDE, generator=self._random)[:_PIXELS]
        patches = torch.arange(audio.shape[1] // 16)
        inputs = {"audio": audio[..., None], "image": frames, "label": torch.zeros(_BATCH, len(DIRECTIONS))}
        points = {"audio": patches, "image": pixels, "label": None}
        found = model(inputs=inputs, subsampled_output_points=points).logits
        wanted = frames.permute(0, 1, 3, 4, 2).flatten(1, 3)[:, pixels]
        image = (found["image"] - wanted).square().mean()
        sound = (found["audio"] - audio).square().mean()
        return 30 * image + 3 * sound + 0.1 * F.cross_entropy(found["label"], labels)


def write_held_out(folder: Path) -> dict[str, str]:
    """Write eight videos with audio of held-out photographs that move. Return the directions by the file's name."""
    random, answers = np.random.default_rng(4), {}
    for number in range(8):
        direction = number % len(DIRECTIONS)
        image = photograph(HELD_OUT[number % len(HELD_OUT)])
        shift = random.uniform(2, 4) * STEPS[direction].numpy()
        frames = shifted_frames(image, (96, 96), shift, random.uniform(0, 1, 2), round(0.96 * FPS))
        name = f"{DIRECTIONS[direction]}-{number}.mp4"
        write_video(folder / name, frames, size=(96, 96), audio_seconds=0.96)
        answers[name] = DIRECTIONS[direction]
    return answers


def mean_video_psnr(rows: Rows, answers: Answers) -> float:  # noqa: ARG001
    """Return the mean PSNR of the reconstructed frames in decibels."""
    return float(np.mean([row["video_psnr_db"] for row in rows]))


RECIPE = Recipe(
    model_class=MULTIMODAL,
    config=config,
    start=start_at_places,
    half=True,
    loss=lambda seed: ClipLoss(TRAINED, seed),
    schedule=Schedule(steps=1000, rate=1.5e-3),
    trial=Trial(
        task="multimodal-autoencoding",
        write=write_held_out,
        score=mean_video_psnr,
        bar=22.0,
        figure="dB of PSNR of the reconstructed frames of held-out clips",
    ),
    data=f"{DATA} The audio consists of random tones. Labels and audio are not learned yet: only frames are.",
    licence=LICENCE,
)

"""Letters for an image model whose latents are of use for other signs of 8 by 8 pixels: it has never seen a digit."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.demo.digits import start_at_places
from pipeline.demo.drawn_letters import FONTS, HELD_OUT_FONTS, LETTERS, SIDE, Pen, draw_letters
from pipeline.demo.recipe import Recipe
from pipeline.demo.training import Schedule
from pipeline.demo.trial import Trial, share_right
from pipeline.reference.published_configs import FOURIER

_COPIES = 10  # of each letter of each held-out font
_DRAWINGS = len(HELD_OUT_FONTS) * len(LETTERS) * _COPIES


def config() -> PerceiverConfig:
    """Return the configuration of the model."""
    return PerceiverConfig(
        num_labels=len(LETTERS),
        num_latents=36,
        d_latents=64,
        qk_channels=64,
        v_channels=64,
        num_blocks=2,
        num_self_attends_per_block=2,
        num_self_attention_heads=4,
        num_cross_attention_heads=1,
        attention_probs_dropout_prob=0.0,
        image_size=SIDE,
        id2label=dict(enumerate(LETTERS)),
        label2id={letter: number for number, letter in enumerate(LETTERS)},
    )


class LetterLoss:
    """Cross-entropy of random batches of drawn letters, and half the contrastive loss of the means of their latents."""

    def __init__(self, seed: int, batch: int = 64) -> None:
        self._letters, self._labels = draw_letters(FONTS)
        self._pen, self._batch = Pen(seed), batch

    def __call__(self, model: Any, step: int) -> Tensor:  # noqa: ARG002
        chosen = self._pen.choose(len(self._letters), self._batch // 2).repeat(2)  # each is drawn twice
        images, labels = self._pen.draw(self._letters[chosen]), self._labels[chosen]
        outputs = model(inputs=images.expand(-1, 3, -1, -1) * 2 - 1, output_hidden_states=True)
        latents = outputs.hidden_states[-1]
        alike = contrastive_loss(latents.mean(dim=1), labels)
        return F.cross_entropy(outputs.logits, labels, label_smoothing=0.05) + 0.5 * alike


def contrastive_loss(vectors: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al., 2020) of vectors [B, D]: those of one label are alike.

    Every label must occur twice.
    """
    vectors, itself = F.normalize(vectors, dim=1), torch.eye(len(labels), dtype=torch.bool)
    similarity = (vectors @ vectors.T / temperature).masked_fill(itself, -1e9)
    same = (labels[:, None] == labels) & ~itself
    return -((similarity.log_softmax(dim=1) * same).sum(dim=1) / same.sum(dim=1)).mean()


def write_held_out(folder: Path) -> dict[str, str]:
    """Write letters of held-out fonts, each drawn `_COPIES` times, as PNG files. Return the letters by name."""
    letters, labels = (each.repeat_interleave(_COPIES, dim=0) for each in draw_letters(HELD_OUT_FONTS))
    answers = {f"letter-{number:04d}.png": LETTERS[label] for number, label in enumerate(labels.tolist())}
    for name, image in zip(answers, Pen(1).draw(letters)[:, 0].numpy(), strict=True):
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(folder / name)
    return answers


RECIPE = Recipe(
    model_class=FOURIER,
    config=config,
    start=start_at_places,
    half=True,
    loss=LetterLoss,
    schedule=Schedule(steps=4000, rate=2e-3),
    trial=Trial(
        task="image-classification",
        write=write_held_out,
        score=share_right,
        bar=85.0,
        figure=f"% of {_DRAWINGS:,} drawings of letters of held-out fonts recognised",
    ),
    data=(
        "The capital letters, and those small ones that look different, of fonts that ship with matplotlib: DejaVu, "
        f"STIX and Computer Modern. They are bent and thickened at random and scaled to {SIDE} by {SIDE} pixels. "
        f"Held-out fonts: {', '.join(HELD_OUT_FONTS)}. Nothing that it was trained on is a digit."
    ),
    licence=(
        "DejaVu: Bitstream Vera and Arev licences, changes are in the public domain. STIX: SIL Open Font License 1.1. "
        "Computer Modern: BaKoMa Fonts Collection, © 1994 Basil K. Malyshev. No font is part of the checkpoint."
    ),
)

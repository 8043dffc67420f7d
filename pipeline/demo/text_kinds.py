"""Classification of texts by kind: English, Python, C, or a Python session."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.demo.python_texts import KINDS, LICENCE, texts
from pipeline.demo.recipe import Recipe
from pipeline.demo.training import Schedule
from pipeline.demo.trial import Trial, share_right, write_lines
from pipeline.heads.tokenizer import PAD, Tokenizer
from pipeline.reference.published_configs import SEQUENCE

LENGTH = 256
"""Tokens of the longest text that the model reads, with [CLS] and [SEP]."""

_SHORTEST = 40  # characters of an excerpt
_BATCH = 64


def config() -> PerceiverConfig:
    """Return the configuration of the model."""
    return PerceiverConfig(
        d_model=48,
        max_position_embeddings=LENGTH,
        num_latents=16,
        d_latents=48,
        num_blocks=2,
        num_self_attends_per_block=2,
        num_self_attention_heads=4,
        num_cross_attention_heads=4,
        qk_channels=48,
        v_channels=48,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(KINDS)),
        label2id={kind: number for number, kind in enumerate(KINDS)},
    )


def excerpt(documents: Sequence[str], random: np.random.Generator) -> str:
    """Return some lines, or a part of one long line, of a random text: of 40 to 240 characters if it is long enough."""
    text = documents[int(random.integers(len(documents)))]
    starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n" and len(text) - at > _SHORTEST)]
    begin = starts[int(random.integers(len(starts)))]
    part = text[begin : begin + int(random.integers(_SHORTEST, LENGTH - 16))]
    end = part.rfind("\n" if "\n" in part[_SHORTEST:] else " ")
    return part[:end] if end >= _SHORTEST else part


class KindLoss:
    """Cross-entropy of random batches of excerpts, as many of each kind."""

    def __init__(self, documents: Mapping[str, Sequence[str]], seed: int) -> None:
        self._documents = [documents[kind] for kind in KINDS]
        self._tokenizer, self._random = Tokenizer(max_length=LENGTH), np.random.default_rng(seed)

    def __call__(self, model: Any, step: int) -> Tensor:  # noqa: ARG002
        kinds = np.arange(_BATCH) % len(KINDS)
        ids = [self._tokenizer.encode(excerpt(self._documents[kind], self._random)).ids for kind in kinds]
        inputs = torch.full((_BATCH, max(map(len, ids))), PAD)
        for row, text in zip(inputs, ids, strict=True):
            row[: len(text)] = torch.from_numpy(text.astype(np.int64))
        logits = model(inputs=inputs, attention_mask=(inputs != PAD).long()).logits
        return F.cross_entropy(logits, torch.from_numpy(kinds), label_smoothing=0.05)


def write_held_out(folder: Path) -> dict[str, str]:
    """Write 250 excerpts of each kind, of held-out modules, as JSON Lines. Return the kinds by name."""
    random, documents = np.random.default_rng(1), texts(held_out=True)
    return write_lines(folder, [(kind, excerpt(documents[kind], random)) for kind in KINDS for _ in range(250)])


RECIPE = Recipe(
    model_class=SEQUENCE,
    config=config,
    loss=lambda seed: KindLoss(texts(held_out=False), seed),
    schedule=Schedule(steps=350, rate=2e-3, warm_up=50),
    trial=Trial(
        task="text-classification",
        write=write_held_out,
        score=share_right,
        bar=90.0,
        figure="% of 1,000 excerpts of held-out modules recognised",
        options={"id_column": "name"},
    ),
    data=(
        "Excerpts of 40 to 240 characters of what ships with Python: sentences of its manual and documentation "
        "strings, the code of its standard library, its C headers, `>>>` examples. A fifth of the modules is held out."
    ),
    licence=LICENCE,
)

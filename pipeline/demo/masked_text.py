"""Masked bytes of English sentences and of code: what ships with Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PerceiverConfig

from pipeline.demo.local_attention import shift, sinusoids
from pipeline.demo.python_texts import KINDS, LICENCE, texts
from pipeline.demo.recipe import Recipe
from pipeline.demo.training import Schedule
from pipeline.demo.trial import Trial, share_filled, write_lines
from pipeline.heads.tokenizer import CLS, MASK, SEP
from pipeline.reference.published_configs import MASKED_LM

LENGTH = 64
"""Tokens that the model reads at a time, with [CLS] and [SEP]; of a longer text the surroundings of each mask."""

_BATCH, _MASKED = 32, 8
_SHARES = (0.4, 0.2, 0.2, 0.2)  # of the kinds in a batch
_WAVES = 32  # channels for positions


def config() -> PerceiverConfig:
    """Return the configuration of the model."""
    return PerceiverConfig(
        d_model=64,
        max_position_embeddings=LENGTH,
        num_latents=LENGTH,
        d_latents=64,
        num_blocks=1,
        num_self_attends_per_block=3,
        num_self_attention_heads=4,
        num_cross_attention_heads=1,
        qk_channels=64,
        v_channels=64,
        attention_probs_dropout_prob=0.0,
    )


@torch.no_grad()
def start_at_neighbours(model: Any) -> None:
    """Let every latent read its own byte, and every head of attention a neighbour at a certain distance, at first.

    Sets weights in place: half of the channels of embeddings and latents start as sinusoids of their positions, the
    others as content; queries and keys use the former. Found by training alone, this would take hours.
    """
    core, positions = model.perceiver, sinusoids(LENGTH, _WAVES)
    reads, output_queries = core.input_preprocessor, core.decoder.output_position_encodings.position_embeddings
    reads.embeddings.weight[:, :_WAVES] *= 0.1
    for table in (reads.position_embeddings.weight, core.embeddings.latents, output_queries):
        table.mul_(0.1)
        table[:, :_WAVES] = positions
    cross = core.encoder.cross_attention.attention
    cross.output.dense.weight[:_WAVES] *= 0.1
    _look(cross.self, [0])
    for layer, distance in zip(core.encoder.self_attends, (1, 2, 4), strict=True):
        layer.attention.output.dense.weight[:_WAVES] *= 0.1
        _look(layer.attention.self, [-distance, distance, -distance - 1, distance + 1])
    decoder = core.decoder.decoding_cross_attention
    for dense in (decoder.attention.output.dense, decoder.mlp.dense2):
        dense.weight *= 0.3  # for logits of about 1
    _look(decoder.attention.self, [0, -1, 1, -2, 2, -3, 3, 0])


def _look(attention: Any, distances: Sequence[int]) -> None:
    """Let each head of an attention look at the position at a distance from its own."""
    for number, distance in enumerate(distances):
        channels = attention.qk_channels // len(distances)
        rows = slice(number * channels, (number + 1) * channels)
        waves = torch.arange(0, _WAVES, max(1, _WAVES // channels))[:channels]
        for projection, matrix in (
            (attention.query, 2 * shift(_WAVES, distance)),
            (attention.key, torch.eye(_WAVES)),
        ):
            projection.weight[rows] *= 0.1
            projection.weight[rows][: len(waves), :_WAVES] = matrix[waves]


class MaskLoss:
    """Cross-entropy of the masked bytes of random batches of texts of all kinds, 40 % of them English."""

    def __init__(self, documents: Mapping[str, Sequence[str]], seed: int) -> None:
        joined = [(" " if kind == "English" else "\n").join(documents[kind]) for kind in KINDS]
        self._texts = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) + 6 for text in joined]
        self._random = np.random.default_rng(seed)

    def __call__(self, model: Any, step: int) -> Tensor:
        length = LENGTH if step % 4 else int(self._random.integers(24, LENGTH))
        kinds = self._random.choice(len(KINDS), _BATCH, p=_SHARES)
        ids = np.stack([self._excerpt(self._texts[kind], length) for kind in kinds])
        ids[:, 0], ids[:, -1] = CLS, SEP
        masked = self._random.permuted(np.tile(np.arange(1, length - 1), (_BATCH, 1)), axis=1)[:, :_MASKED]
        rows = np.arange(_BATCH)[:, None]
        targets = torch.from_numpy(ids[rows, masked])
        ids[rows, masked] = MASK
        return F.cross_entropy(_logits_at(model, torch.from_numpy(ids), masked).flatten(0, 1), targets.flatten())

    def _excerpt(self, text: np.ndarray, length: int) -> np.ndarray:
        begin = self._random.integers(0, len(text) - LENGTH)
        return text[begin : begin + length]


def _logits_at(model: Any, ids: Tensor, positions: np.ndarray) -> Tensor:
    """Return the logits [B, P, vocabulary] at positions [B, P] only, which saves a third of the time of a step."""
    core = model.perceiver
    inputs, _, _ = core.input_preprocessor(ids)
    latents = core.encoder(core.embeddings(len(ids)), inputs=inputs).last_hidden_state
    queries = core.decoder.decoder_query(inputs)[0, torch.from_numpy(positions)]
    outputs = core.decoder(queries, latents).logits
    return model.embedding_decoder(outputs, embedding_layer=core.input_preprocessor.embeddings)


def write_held_out(folder: Path) -> dict[str, str]:
    """Write 1,000 held-out sentences with one masked byte each as JSON Lines. Return the bytes by name."""
    random = np.random.default_rng(2)
    sentences = [text for text in texts(held_out=True)["English"] if text.isascii() and "[" not in text]
    masked = []
    for number in random.integers(len(sentences), size=1000):
        text = sentences[number][:120]
        at = int(random.integers(len(text)))
        masked.append((text[at], f"{text[:at]}[MASK]{text[at + 1 :]}"))
    return write_lines(folder, masked)


RECIPE = Recipe(
    model_class=MASKED_LM,
    config=config,
    start=start_at_neighbours,
    half=True,
    loss=lambda seed: MaskLoss(texts(held_out=False), seed),
    schedule=Schedule(steps=3500, rate=3e-3),
    trial=Trial(
        task="fill-mask",
        write=write_held_out,
        score=share_filled,
        bar=50.0,
        figure="% of 1,000 single masked bytes of held-out sentences filled in",
        options={"id_column": "name"},
    ),
    data=(
        "What ships with Python: sentences of its manual and documentation strings, the code of its standard library, "
        "its C headers, `>>>` examples. A fifth of the modules and topics is held out."
    ),
    licence=LICENCE,
)

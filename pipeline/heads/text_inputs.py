"""Text as inputs: the tokenizer of a checkpoint, length buckets, and texts padded to one length."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.head import JSON
from pipeline.heads.tokenizer import MAX_LENGTH, PAD, VOCABULARY, Tokenizer
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks tokenise without torch
    import torch

    from pipeline.perceiver import PerceiverIO

# The encoder reads all inputs once, into few latents: 2,048 tokens cost a twentieth more than 128 do in the published
# model, so buckets are wide and micro-batches full.
_FIRST_BUCKET, _WIDER = 128, 4
_MULTIPLE = 64  # padded lengths are few, so that memory is used again


@dataclass(frozen=True, kw_only=True)
class TextInputs:
    """A text as the models read it whole: cut where it is longer than the model, and flagged."""

    medium: ClassVar[MediumKind] = "text"
    bytes_per_medium_byte: ClassVar[float] = 0.0
    clip_spec: ClassVar[None] = None
    tokenizer: Tokenizer

    @property
    def unit_bytes(self) -> int:
        """Bytes of the ids of the longest text."""
        return 2 * self.tokenizer.max_length

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The transform's options."""
        return {"transform": self.tokenizer.fingerprint_options}

    def transform(self, medium: str | bytes) -> dict[str, np.ndarray]:
        """{"ids": int16 [tokens], "flags": uint8 [2]}, truncated and replaced, from a text."""
        encoded = self.tokenizer.encode(medium)
        return {"ids": encoded.ids, "flags": np.array([encoded.truncated, encoded.replaced], np.uint8)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Texts of about one length."""
        return length_bucket(shapes["ids"][0]) if "ids" in shapes else None

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"flags": uint8 [B, 2]}, which stay on the CPU, and where there are ids {"ids": int64 [B, L], "mask": bool
        [B, L] or None}."""
        flags = {"flags": np.stack(arrays["flags"])}
        if "ids" not in arrays:
            return flags
        ids, mask = pad(arrays["ids"], self.tokenizer.max_length)
        return {"ids": ids.to(device), "mask": None if mask is None else mask.to(device), **flags}

    def encode(self, model: PerceiverIO, inputs: dict[str, Any]) -> torch.Tensor:
        """Latents [B, N, D]."""
        return model.encode(inputs["ids"], inputs["mask"])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """One a text."""
        return [1] * len(inputs["flags"])


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint in a local folder; CheckpointError where it is not one of bytes."""
    from pipeline.heads.checkpoint_json import read_checkpoint_json

    positions = read_checkpoint_json(folder, "config.json", _positions)
    return read_checkpoint_json(
        folder, "tokenizer_config.json", lambda config: Tokenizer.from_config(config, positions), {}
    )


def _positions(config: Mapping[str, Any]) -> int:
    """How many tokens the model has positions for."""
    vocabulary, positions = config.get("vocab_size", VOCABULARY), config.get("max_position_embeddings", MAX_LENGTH)
    if vocabulary < VOCABULARY:
        raise ValueError(f"vocab_size ({vocabulary}) must be at least {VOCABULARY}: 256 bytes and six tokens")
    return int(positions)


def length_bucket(length: int) -> int:
    """The bucket of a text of so many tokens, by the length of the longest that is in it: 128, 512, 2,048 and so on."""
    edge = _FIRST_BUCKET
    while edge < length:
        edge *= _WIDER
    return edge


def pad(texts: Sequence[np.ndarray], limit: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Ids int64 [B, L] of texts of int16 ids, and the mask [B, L] bool, true where there is text; None without padding.

    L is the longest text's length; with shorter ones beside it the next multiple of 64, at most `limit`.
    """
    import torch

    lengths = np.array([len(ids) for ids in texts])
    longest = int(lengths.max())
    same = bool((lengths == longest).all())
    width = longest if same else max(longest, min(limit, -(-longest // _MULTIPLE) * _MULTIPLE))
    padded = np.full((len(texts), width), PAD, np.int64)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    mask = None if same else torch.from_numpy(np.arange(width) < lengths[:, None])
    return torch.from_numpy(padded), mask

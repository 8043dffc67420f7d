"""Texts as inputs: tokenized, grouped by length, and padded to one length per micro-batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.head import JSON, InputTransform, Model, Tensor, as_tensor
from pipeline.heads.special_tokens import check_token_files, check_tokenizer_class
from pipeline.heads.tokenizer import MAX_LENGTH, PAD, VOCABULARY, Tokenizer
from pipeline.media import MediumKind

# The encoder reads all inputs once, into a few latents: in the published model 2,048 tokens cost only 5 % more than
# 128. So buckets are wide, which fills micro-batches.
_FIRST_BUCKET, _BUCKET_GROWTH = 128, 4
_PADDING_MULTIPLE = 64  # tokens; few different padded lengths let the allocator reuse memory


@dataclass(frozen=True, kw_only=True)
class TextInputs(InputTransform):
    """Texts that are read whole: one longer than the model is truncated and flagged."""

    medium: ClassVar[MediumKind] = "text"
    bytes_per_medium_byte: ClassVar[float] = 0.0
    tokenizer: Tokenizer

    @classmethod
    def from_folder(cls, folder: Path, **fields: Any) -> Self:
        """Read the tokenizer of a checkpoint in a local folder. Raise CheckpointError if it is not one of bytes.

        fields: those of a subclass.
        """
        positions = parse_json(folder, "config.json", _positions)
        tokenizer = parse_json(folder, "tokenizer_config.json", Tokenizer.from_config, positions, default={})
        check_token_files(folder)
        return cls(tokenizer=tokenizer, **fields)

    @property
    def unit_bytes(self) -> int:
        """Bytes of the token ids of the longest text."""
        return 2 * self.tokenizer.max_length

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the tokenizer."""
        return {"transform": self.tokenizer.fingerprint_options}

    def transform(self, medium: str | bytes) -> dict[str, np.ndarray]:
        """Return {"ids": int16 [tokens], "flags": uint8 [2]}; flags are truncated and replaced."""
        encoded = self.tokenizer.encode(medium)
        return {"ids": encoded.ids, "flags": np.array([encoded.truncated, encoded.replaced], np.uint8)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Group texts of similar length."""
        return length_bucket(shapes["ids"][0]) if "ids" in shapes else None

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Return tensors "ids" int64 [B, L] and "mask" bool [B, L] or None, and the array "flags" uint8 [B, 2].

        Only flags for units with stored latents.
        """
        flags = {"flags": np.stack(arrays["flags"])}
        if "ids" not in arrays:
            return flags
        ids, mask = pad(arrays["ids"], self.tokenizer.max_length)
        return {"ids": ids, "mask": mask, **flags}

    def encode(self, model: Model, inputs: dict[str, Any]) -> Tensor:
        """Return latents [B, N, D]."""
        return model.encode(inputs["ids"], inputs["mask"])


def _positions(config: Mapping[str, Any]) -> int:
    """Return the number of tokens for which the model has positions.

    Raise ValueError for another vocabulary or tokenizer.
    """
    check_tokenizer_class(config)
    vocabulary, positions = config.get("vocab_size", VOCABULARY), config.get("max_position_embeddings", MAX_LENGTH)
    if vocabulary < VOCABULARY:
        raise ValueError(f"vocab_size ({vocabulary}) must be at least {VOCABULARY}: 256 bytes and six tokens")
    return int(positions)


def length_bucket(length: int) -> int:
    """Return the greatest length in the bucket of a text of `length` tokens: 128, 512, 2,048 and so on."""
    edge = _FIRST_BUCKET
    while edge < length:
        edge *= _BUCKET_GROWTH
    return edge


def pad(texts: Sequence[np.ndarray], limit: int) -> tuple[Tensor, Tensor | None]:
    """Return ids int64 [B, L] of texts of int16 ids, and a mask bool [B, L], true for text; None without padding.

    L is the greatest length; if lengths differ, rounded up to a multiple of 64 but to at most `limit`.
    """
    lengths = np.array([len(ids) for ids in texts])
    longest = int(lengths.max())
    equal = bool((lengths == longest).all())
    width = longest if equal else max(longest, min(limit, -(-longest // _PADDING_MULTIPLE) * _PADDING_MULTIPLE))
    padded = np.full((len(texts), width), PAD, np.int64)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    mask = None if equal else as_tensor(np.arange(width) < lengths[:, None])
    return as_tensor(padded), mask

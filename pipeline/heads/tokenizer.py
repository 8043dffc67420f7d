"""Text to token ids and back: UTF-8 bytes, equal to transformers' PerceiverTokenizer, without a Python loop per byte.

A byte's id is its value plus 6. The ids 0 to 5 are the special tokens, both those added around a text and those written
in it. These are first replaced by bytes that do not occur in UTF-8, so that one table lookup converts the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.heads.head import JSON
from pipeline.heads.special_tokens import SPECIAL, check_tokenizer_config

PAD, MASK, CLS, SEP = 0, 3, 4, 5
VOCABULARY = 256 + len(SPECIAL)
MAX_LENGTH = 2048  # tokens; transformers' default

_UNUSED = 0xF8  # the first of eight bytes that do not occur in UTF-8; they stand for special tokens
_IDS = np.arange(len(SPECIAL), VOCABULARY, dtype=np.int16)
_IDS[_UNUSED : _UNUSED + len(SPECIAL)] = np.arange(len(SPECIAL))
_BEGIN, _END = bytes([_UNUSED + CLS]), bytes([_UNUSED + SEP])
_SPECIAL_BYTES = [token.encode() for token in SPECIAL]
# [MASK] first: a text without another "[" is then not searched for the other tokens.
_REPLACEMENTS = {_SPECIAL_BYTES[token]: bytes([_UNUSED + token]) for token in (MASK, PAD, 1, 2, CLS, SEP)}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The tokenizer of a checkpoint.

    Attributes:
        max_length: maximum number of tokens, including [CLS] and [SEP].
        keep: which end of a longer text is kept, "first" or "last".
    """

    max_length: int = MAX_LENGTH
    keep: str = "first"

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"max_length ({self.max_length} tokens) must be at least 3: [CLS], [SEP] and one more")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], positions: int) -> Tokenizer:
        """Read a tokenizer_config.json ({} for the defaults). `positions`: the model's `max_position_embeddings`.

        Raise ValueError if it describes another tokenizer than one of bytes with the six tokens of `SPECIAL`.
        """
        check_tokenizer_config(config)
        length = config.get("model_max_length", MAX_LENGTH)
        if isinstance(length, bool) or not isinstance(length, int | float) or length < 1:
            raise ValueError(f"model_max_length ({length!r}) must be a number of tokens")
        side = config.get("truncation_side", "right")
        if side not in ("left", "right"):
            raise ValueError(f"truncation_side ({side!r}) must be 'left' or 'right'")
        return cls(max_length=int(min(length, positions)), keep="first" if side == "right" else "last")

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Everything that changes the ids of a text."""
        return {"max_length": self.max_length, "keep": self.keep}

    def encode(self, text: str | bytes, *, truncate: bool = True) -> Encoded:
        """Return the ids of a text between [CLS] and [SEP], at most `max_length` of them unless `truncate` is false.

        Invalid UTF-8 (bytes) and lone surrogates (str) are read as U+FFFD and flagged as replaced.
        """
        data, replaced = _utf8(text)
        for token, byte in _REPLACEMENTS.items():
            if b"[" not in data:
                break
            data = data.replace(token, byte)
        room = self.max_length - 2
        truncated = truncate and len(data) > room
        if truncated:
            data = data[:room] if self.keep == "first" else data[-room:]
        ids = _IDS.take(np.frombuffer(_BEGIN + data + _END, np.uint8))
        return Encoded(ids=ids, truncated=truncated, replaced=replaced)


class Encoded(NamedTuple):
    """A tokenized text.

    Attributes:
        ids: int16 [tokens].
        truncated: whether tokens were left out.
        replaced: whether the text had invalid Unicode.
    """

    ids: np.ndarray
    truncated: bool
    replaced: bool


def decode(ids: Sequence[int] | np.ndarray) -> str:
    """Return the text of token ids, with special tokens written out.

    Bytes that do not form valid UTF-8, and ids beyond the vocabulary of 262, become U+FFFD.
    """
    array = np.asarray(ids, np.int64)
    data = (array - len(SPECIAL)).astype(np.uint8).tobytes()
    parts, at = [], 0
    for position in np.flatnonzero((array < len(SPECIAL)) | (array >= VOCABULARY)).tolist():
        token = int(array[position])
        parts += [data[at:position], _SPECIAL_BYTES[token] if token < len(SPECIAL) else b"\xff"]
        at = position + 1
    return b"".join([*parts, data[at:]]).decode(errors="replace")


def _utf8(text: str | bytes) -> tuple[bytes, bool]:
    """Return valid UTF-8, and whether invalid parts were replaced."""
    if isinstance(text, bytes):
        try:
            text.decode()
        except UnicodeDecodeError:
            return text.decode(errors="replace").encode(), True
        return text, False
    try:
        return text.encode(), False
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode(), True

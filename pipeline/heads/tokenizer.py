"""From text to token ids and back: UTF-8 bytes, as transformers' PerceiverTokenizer has them, without its loop a byte.

A byte's id is its value plus 6. The ids 0 to 5 are the special tokens, whether they are put round a text or written in
it. In between they are bytes that UTF-8 never has, so that one look-up in a table makes ids of a whole text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.heads.head import JSON

SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]")
"""The special tokens; their places are their ids."""

PAD, MASK, CLS, SEP = 0, 3, 4, 5
VOCABULARY = 256 + len(SPECIAL)
MAX_LENGTH = 2048  # tokens, where the checkpoint says nothing: transformers' default

_NAMES = ("pad_token", "bos_token", "eos_token", "mask_token", "cls_token", "sep_token")
_FREE = 0xF8  # the first of eight bytes that UTF-8 never has: they stand for special tokens on the way to ids
_IDS = np.arange(len(SPECIAL), VOCABULARY, dtype=np.int16)
_IDS[_FREE : _FREE + len(SPECIAL)] = np.arange(len(SPECIAL))
_BEGIN, _END = bytes([_FREE + CLS]), bytes([_FREE + SEP])
_SPECIAL_BYTES = [token.encode() for token in SPECIAL]
# [MASK] first: a text with no other token is then searched no further.
_WRITTEN = {_SPECIAL_BYTES[place]: bytes([_FREE + place]) for place in (MASK, PAD, 1, 2, CLS, SEP)}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The tokenizer of a checkpoint. max_length: tokens of the longest text, [CLS] and [SEP] among them.

    keep: which end of a longer text is kept, "first" or "last".
    """

    max_length: int = MAX_LENGTH
    keep: str = "first"

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"the longest text ({self.max_length} tokens) must hold [CLS], [SEP] and one more")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], positions: int) -> Tokenizer:
        """From a tokenizer_config.json, {} where there is none, and the model's `max_position_embeddings`.

        ValueError where it describes another tokenizer than one of bytes with the six tokens of `SPECIAL`.
        """
        _check_tokens(config)
        length = config.get("model_max_length", MAX_LENGTH)
        if isinstance(length, bool) or not isinstance(length, int | float) or length < 1:
            raise ValueError(f"model_max_length ({length!r}) must be a number of tokens")
        side = config.get("truncation_side", "right")
        if side not in ("left", "right"):
            raise ValueError(f"truncation_side ({side!r}) must be 'left' or 'right'")
        return cls(max_length=int(min(length, positions)), keep="first" if side == "right" else "last")

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """What changes the ids of a text."""
        return {"max_length": self.max_length, "keep": self.keep}

    def encode(self, text: str | bytes, *, truncate: bool = True) -> Encoded:
        """The ids of one text, [CLS] and [SEP] around it; at most `max_length` of them unless `truncate` is false.

        What is no UTF-8 (bytes) or no character (a lone surrogate in a str) is read as U+FFFD, and flagged.
        """
        data, replaced = _utf8(text)
        for token, byte in _WRITTEN.items():
            if b"[" not in data:
                break
            data = data.replace(token, byte)
        room = self.max_length - 2
        truncated = truncate and len(data) > room
        if truncated:
            data = data[:room] if self.keep == "first" else data[-room:]
        ids = _IDS.take(np.frombuffer(_BEGIN + data + _END, np.uint8))
        return Encoded(ids=ids, truncated=truncated, replaced=replaced)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """ids: int16 [tokens]. truncated: some were left out. replaced: some of the text was not valid Unicode."""

    ids: np.ndarray
    truncated: bool
    replaced: bool


def decode(ids: Sequence[int] | np.ndarray) -> str:
    """The text of token ids, special tokens written out; bytes that are no UTF-8 together become U+FFFD.

    An id beyond the 262 that stand for something is an unfinished character too: U+FFFD.
    """
    array = np.asarray(ids, np.int64)
    data = (array - len(SPECIAL)).astype(np.uint8).tobytes()
    parts, at = [], 0
    for place in np.flatnonzero((array < len(SPECIAL)) | (array >= VOCABULARY)).tolist():
        token = int(array[place])
        parts += [data[at:place], _SPECIAL_BYTES[token] if token < len(SPECIAL) else b"\xff"]
        at = place + 1
    return b"".join([*parts, data[at:]]).decode(errors="replace")


def _utf8(text: str | bytes) -> tuple[bytes, bool]:
    """Valid UTF-8, and whether something was replaced for it."""
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


def _check_tokens(config: Mapping[str, Any]) -> None:
    """ValueError where the special tokens are others, or swallow the white space beside them."""
    added = config.get("added_tokens_decoder") or {}
    if unknown := sorted(set(added) - {str(place) for place in range(len(SPECIAL))}):
        raise ValueError(f"added_tokens_decoder has the ids {unknown}, the vocabulary of bytes ends with six tokens")
    named = {name: config.get(name) for name in _NAMES}
    numbered = {f"added_tokens_decoder[{place}]": added.get(str(place)) for place in range(len(SPECIAL))}
    for values in (named, numbered):
        for token, (name, value) in zip(SPECIAL, values.items(), strict=True):
            if value is not None and not _is(token, value):
                raise ValueError(f"{name} ({value!r}) must be {token!r} and leave the white space beside it")


def _is(token: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("content") == token and not any(value.get(n) for n in ("lstrip", "rstrip", "single_word"))
    return bool(value == token)

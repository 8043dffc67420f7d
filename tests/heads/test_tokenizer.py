"""Tokenization and decoding, against transformers' PerceiverTokenizer."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import PerceiverTokenizer

from pipeline.heads.tokenizer import SPECIAL, Tokenizer, decode

PIECES = [
    *SPECIAL,
    *SPECIAL,
    "[",
    "]",
    "[[",
    "[MAS",
    "K]",
    "mask",
    "[mask]",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\x00",
    "a",
]
PIECES += [
    "word",
    "é",
    "ß",
    "中文",
    "עברית",
    "🙂",
    "👩‍👩‍👧",
    "\u2028",
    "\ufffd",
    "\ufeff",
    "\x7f",
    "0",
    "\xf8",
    "\U0010ffff",
]
ODD = ["", " ", "[[MASK]]", " a [MASK] b ", "[MASK][MASK]", "[MA[SEP]SK]", "[CLS", "MASK]", "[CLS][SEP]", "\n [SEP]\n"]


@pytest.fixture(scope="module")
def reference() -> PerceiverTokenizer:
    return PerceiverTokenizer()


def some_texts(count: int, seed: int, pieces: int = 60) -> list[str]:
    choose = random.Random(seed)
    return ["".join(choose.choices(PIECES, k=choose.randrange(pieces))) for _ in range(count)]


@pytest.mark.parametrize("text", ODD)
def test_ids_of_special_texts_equal_those_of_transformers(reference: PerceiverTokenizer, text: str) -> None:
    assert Tokenizer().encode(text).ids.tolist() == reference(text)["input_ids"]


@pytest.mark.parametrize("seed", range(4))
def test_ids_of_random_texts_equal_those_of_transformers(reference: PerceiverTokenizer, seed: int) -> None:
    texts = some_texts(300, seed)
    ids = [Tokenizer().encode(text).ids.tolist() for text in texts]
    assert ids == reference(texts)["input_ids"]
    assert ids == [Tokenizer().encode(text.encode()).ids.tolist() for text in texts]


@pytest.mark.parametrize(("keep", "side"), [("first", "right"), ("last", "left")])
def test_long_texts_are_truncated_as_by_transformers(keep: str, side: str) -> None:
    reference = PerceiverTokenizer(truncation_side=side)
    tokenizer = Tokenizer(max_length=20, keep=keep)
    for text in [*some_texts(300, 9, pieces=15), "x" * 17, "x" * 18, "x" * 19]:
        encoded = tokenizer.encode(text)
        assert encoded.ids.tolist() == reference(text, truncation=True, max_length=20)["input_ids"]
        assert encoded.truncated == (len(reference(text)["input_ids"]) > 20)
        assert tokenizer.encode(text, truncate=False).ids.tolist() == reference(text)["input_ids"]


@pytest.mark.parametrize("seed", range(4))
def test_decoded_text_equals_that_of_transformers(reference: PerceiverTokenizer, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for length in draw.integers(0, 200, 100):
        ids = draw.integers(0, 262, length).tolist()
        assert decode(ids) == reference.decode(ids)
    assert [decode([index]) for index in range(262)] == [reference.decode([index]) for index in range(262)]


def test_decoding_inverts_encoding() -> None:
    for text in [*ODD, *some_texts(300, 5)]:
        assert decode(Tokenizer().encode(text).ids[1:-1]) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"\xc3", "\ufffd"),
        (b"\xf8[MASK]\xfb", "\ufffd[MASK]\ufffd"),  # which stand for special tokens on the way
        ("a\ud800b", "a\ufffdb"),
        ("\udcff[MASK]", "\ufffd[MASK]"),
    ],
)
def test_invalid_unicode_is_replaced_and_flagged(text: str | bytes, read: str) -> None:
    encoded = Tokenizer().encode(text)
    assert encoded.replaced
    assert encoded.ids.tolist() == Tokenizer().encode(read).ids.tolist()
    assert not Tokenizer().encode(read).replaced


def test_id_beyond_the_vocabulary_is_decoded_as_a_replacement_character() -> None:
    assert decode([6 + 97, 263, 6 + 98]) == "a\ufffdb"


def test_max_length_is_the_smaller_of_tokenizer_and_model() -> None:
    assert Tokenizer.from_config({}, 4096).max_length == 2048
    assert Tokenizer.from_config({"model_max_length": 512}, 2048).max_length == 512
    assert Tokenizer.from_config({"model_max_length": 1e30}, 40) == Tokenizer(max_length=40)
    assert Tokenizer.from_config({"truncation_side": "left"}, 40) == Tokenizer(max_length=40, keep="last")
    assert Tokenizer(max_length=7).fingerprint_options == {"max_length": 7, "keep": "first"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"mask_token": "<mask>"}, r"mask_token \('<mask>'\) must be '\[MASK\]'"),
        ({"mask_token": {"content": "[MASK]", "lstrip": True}}, "white space"),
        ({"added_tokens_decoder": {"3": {"content": "[M]"}}}, r"added_tokens_decoder\[3\]"),
        ({"added_tokens_decoder": {"262": {"content": "[NEW]"}}}, "262"),
        ({"model_max_length": "long"}, "model_max_length"),
        ({"model_max_length": 2}, r"2 tokens"),
        ({"truncation_side": "middle"}, "truncation_side"),
    ],
)
def test_config_of_another_tokenizer_is_rejected(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Tokenizer.from_config(config, 2048)


def test_config_saved_by_transformers_is_read(tmp_path: Path) -> None:
    PerceiverTokenizer(model_max_length=99).save_pretrained(tmp_path)
    assert Tokenizer.from_config(json.loads((tmp_path / "tokenizer_config.json").read_text()), 2048).max_length == 99


@pytest.mark.slow
def test_tokenizer_is_fifty_times_as_fast_as_transformers(reference: PerceiverTokenizer) -> None:
    draw = np.random.default_rng(0)
    sentence = "Every latent reads all of it. Größere Bilder, längere Texte: les requêtes décident [MASK] 🙂 "
    texts = [(sentence * 40).encode()[:length].decode(errors="ignore") for length in draw.integers(20, 2001, 1000)]
    tokenizer, ours, theirs = Tokenizer(), [], []
    for _ in range(5):
        for _ in range(10):
            started = time.perf_counter()
            got = [tokenizer.encode(text).ids for text in texts]
            ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        expected = reference(texts)["input_ids"]
        theirs.append(time.perf_counter() - started)
    assert [ids.tolist() for ids in got] == expected
    print(f"{1000 / min(ours):,.0f} and {1000 / min(theirs):,.0f} texts a second: {min(theirs) / min(ours):.0f} times")
    assert min(theirs) >= 50 * min(ours)

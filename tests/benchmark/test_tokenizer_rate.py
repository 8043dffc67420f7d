"""The tokenizer benchmark compares all ids and measures both rates."""

import pytest

from pipeline.benchmark import tokenizer
from pipeline.benchmark.tokenizer import bench_tokenizer, random_texts
from pipeline.heads.tokenizer import Tokenizer


def test_texts_have_20_to_2000_bytes_and_masks():
    texts = list(random_texts(300))
    sizes = [len(text.encode()) for text in texts]
    assert 20 <= min(sizes) < 100
    assert 1900 < max(sizes) <= 2000
    assert any("[MASK]" in text for text in texts)
    assert texts == list(random_texts(300))
    assert texts != list(random_texts(300, seed=1))


def test_row_has_both_rates():
    row = bench_tokenizer(30)
    assert row["texts"] == 30
    assert row["ratio"] == row["engine_texts_per_second"] / row["transformers_texts_per_second"]


def test_different_ids_are_an_error(monkeypatch):
    class Wrong(Tokenizer):
        def encode(self, text, *, truncate=True):
            return super().encode(text[:-1], truncate=truncate)

    monkeypatch.setattr(tokenizer, "Tokenizer", Wrong)
    with pytest.raises(RuntimeError, match=r"the ids of .* differ"):
        bench_tokenizer(5)

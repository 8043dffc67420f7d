"""The tokenizer against PerceiverTokenizer: the same ids, and texts per second."""

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from pipeline.heads.tokenizer import Tokenizer

BATCH = 1000  # texts per alternating measurement
_LENGTHS = (20, 2000)  # bytes of the shortest and the longest text
_TEXT = "the byte array was long and every latent read größer 🙂 図 [MASK] naïve data, 42; — queries décident"
_WORDS = _TEXT.split()


def random_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of 20 to 2,000 bytes, of words in several scripts, some with masks."""
    draw = random.Random(seed)  # noqa: S311 - not a secret
    for _ in range(count):
        length, words, size = draw.randint(*_LENGTHS), [], 0
        while size < length:
            words.append(draw.choice(_WORDS))
            size += len(words[-1].encode()) + 1
        yield " ".join(words).encode()[:length].decode(errors="ignore").ljust(_LENGTHS[0], ".")


def bench_tokenizer(count: int = 100_000) -> dict[str, Any]:
    """Return the texts per second of both: medians over batches of 1,000, alternating, in one process on one thread.

    RuntimeError, naming the text, if their ids differ.
    """
    from transformers import PerceiverTokenizer

    ours, theirs = Tokenizer(), PerceiverTokenizer()
    texts, rates = random_texts(count), {"engine": [], "transformers": []}  # type: ignore[var-annotated]
    size = 0
    for begin in range(0, count, BATCH):
        batch = [next(texts) for _ in range(min(BATCH, count - begin))]
        size += sum(len(text.encode()) for text in batch)
        started = time.perf_counter()
        found = [ours.encode(text).ids for text in batch]
        between = time.perf_counter()
        expected = theirs(batch, truncation=True)["input_ids"]
        ended = time.perf_counter()
        rates["engine"].append(len(batch) / (between - started))
        rates["transformers"].append(len(batch) / (ended - between))
        for text, one, other in zip(batch, found, expected, strict=True):
            if one.tolist() != other:
                raise RuntimeError(f"the ids of {text!r} differ")
    medians = {f"{name}_texts_per_second": statistics.median(values) for name, values in rates.items()}
    ratio = medians["engine_texts_per_second"] / medians["transformers_texts_per_second"]
    return {"shape": "tokenizer", "texts": count, "mean_bytes": size / count, **medians, "ratio": ratio}

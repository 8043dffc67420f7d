"""Probabilities of all labels, from what rows store: all logits, or the best labels with their scores."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.runtime.errors import UsageError

MAX_BYTES = 4 << 30  # of the probabilities of all units


def probability_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that tell the probabilities: `logits` if they are stored, else `topk`."""
    return ["logits"] if "logits" in schema.names else ["topk"]


def probabilities(rows: pa.Table, labels: Sequence[int], total: int) -> np.ndarray:
    """Return the probabilities float32 [n, len(labels) + 1] of some labels, and in the last column of all others.

    Scores of the best labels leave a rest, which is shared equally by the labels without a score.

    Args:
        rows: n rows with `probability_columns`.
        labels: Ids of the labels, ascending.
        total: Number of labels of the model.

    Raises:
        UsageError: They take more than 4 GiB.
    """
    wanted = np.asarray(labels, np.int64)
    if (size := 4 * rows.num_rows * (len(wanted) + 1)) > MAX_BYTES:
        raise UsageError(
            f"the probabilities of {len(wanted):,} labels for {rows.num_rows:,} units take {size / 2**30:.1f} GiB, "
            f"more than {MAX_BYTES >> 30}: select fewer units with --where or --ids"
        )
    found = np.empty((rows.num_rows, len(wanted) + 1), np.float32)
    begin = 0
    for batch in rows.to_batches():
        part = found[begin : begin + batch.num_rows]
        if "logits" in batch.schema.names:
            _from_logits(batch.column("logits"), wanted, total, part)
        else:
            _from_topk(batch.column("topk"), wanted, total, part)
        begin += batch.num_rows
    return found


def _from_logits(column: pa.Array, labels: np.ndarray, total: int, out: np.ndarray) -> None:
    logits = pc.list_flatten(column).to_numpy(zero_copy_only=False).reshape(len(column), total)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shifted /= shifted.sum(axis=1, keepdims=True)
    out[:, :-1] = shifted[:, labels]
    out[:, -1] = np.maximum(0, 1 - out[:, :-1].sum(axis=1))


def _from_topk(column: pa.Array, labels: np.ndarray, total: int, out: np.ndarray) -> None:
    flat = pc.list_flatten(column)
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(column)), counts)
    numbers, scores = (pc.struct_field(flat, name).to_numpy(zero_copy_only=False) for name in ("label_id", "score"))
    rest = np.maximum(0, 1 - np.bincount(rows, scores, len(column)))
    out[:, :-1] = (rest / np.maximum(1, total - counts))[:, None]
    places = np.searchsorted(labels, numbers)
    is_wanted = labels[np.minimum(places, len(labels) - 1)] == numbers
    out[rows[is_wanted], places[is_wanted]] = scores[is_wanted]
    out[:, -1] = np.maximum(0, 1 - out[:, :-1].sum(axis=1))

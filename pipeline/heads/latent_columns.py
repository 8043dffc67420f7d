"""Conversion of latents to output columns and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.heads.head import ColumnType, Head, Tensor

LATENT_COLUMNS = ("latents", "num_latents", "d_latents")


def latent_column_types(dtype: str) -> dict[str, ColumnType]:
    """Return the types of the columns: latents [T, N, D] of a unit, flattened, and their number N and width D.

    T is 1, except for a frame in tiles and a text in windows.
    """
    return {"latents": [dtype], "num_latents": "int32", "d_latents": "int32"}


def latent_column_values(latents: Tensor, counts: Sequence[int], dtype: str) -> dict[str, Sequence[Any] | np.ndarray]:
    """Return the columns of a micro-batch from latents [T, N, D], of which unit i has `counts[i]`.

    Values beyond the range of `dtype` become infinite; the caller rejects such rows.
    """
    units, (_, number, width) = len(counts), latents.shape
    with np.errstate(over="ignore"):
        values = latents.float().cpu().numpy().astype(dtype).reshape(-1, number * width)
    ends = np.cumsum(counts, dtype=np.int64)
    return {
        "latents": [values[end - count : end].reshape(-1) for end, count in zip(ends, counts, strict=True)],
        "num_latents": np.full(units, number, np.int32),
        "d_latents": np.full(units, width, np.int32),
    }


def check_latent_count(latents: Tensor, counts: Sequence[int]) -> None:
    """Raise ValueError unless there are `sum(counts)` latents: stored ones may be of another task or frame size."""
    if len(latents) != sum(counts):
        raise ValueError(
            f"the units need {list(counts)} latents each, {sum(counts)} in total, but {len(latents)} are stored"
        )


def latents_from_row(row: Mapping[str, Any]) -> np.ndarray:
    """Return the latents [T, N, D] of a row. Raise ValueError if its numbers do not fit together."""
    flat, number, width = np.asarray(row["latents"]), row["num_latents"], row["d_latents"]
    if not number or not width or flat.size % (number * width):
        raise ValueError(f"{flat.size} numbers in latents cannot be split into arrays of {number} by {width}")
    return flat.reshape(-1, number, width)


def output_columns(head: Head, keep_latents: str | None) -> dict[str, ColumnType]:
    """Return the columns of a row after those that identify its unit."""
    return head.columns if keep_latents is None else {**head.columns, **latent_column_types(keep_latents)}

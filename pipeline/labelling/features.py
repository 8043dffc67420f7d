"""Features of units: what a linear probe, or a search for similar units, reads of stored rows."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline.formatting import counted, first_of
from pipeline.heads.latent_columns import LATENT_COLUMNS, latents_from_row
from pipeline.heads.pooling import Pooling, pool
from pipeline.labelling.labelled_rows import last_rows
from pipeline.runtime.errors import UsageError

MAX_BYTES = 8 << 30  # of the features of all units


def feature_columns(names: Sequence[str], pooling: Pooling, uri: str) -> tuple[str, ...]:
    """Return the columns that hold features. UsageError if the rows have none."""
    if pooling == "mean" and "embedding" in names:
        return ("embedding",)
    if set(LATENT_COLUMNS) <= set(names):
        return LATENT_COLUMNS
    wanted = "neither embeddings nor latents" if pooling == "mean" else "no latents"
    remedy = "run feature-extraction, or any task with --latents" if pooling == "mean" else "run it with --latents"
    raise UsageError(f"{uri}: the rows have {wanted}: {remedy}")


def read_features(batches: Iterable[pa.RecordBatch], pooling: Pooling) -> tuple[pa.Table, np.ndarray]:
    """Return the rows without the columns of features, and their features float32 [n, F], one for each unit.

    batches: With `feature_columns` and `id`; of several rows of a unit the last one counts.

    Raises:
        UsageError: Features differ in their number, are not finite, or take more than 8 GiB.
    """
    tables, vectors, size = list[pa.Table](), list[np.ndarray](), 0
    for batch in batches:
        found = list(_features(batch, pooling))
        size += sum(vector.nbytes for vector in found)
        if size > MAX_BYTES:
            raise UsageError(f"the features take more than {MAX_BYTES >> 30} GiB: select fewer units with --where")
        others = [name for name in batch.schema.names if name not in (*LATENT_COLUMNS, "embedding")]
        tables.append(pa.Table.from_batches([batch]).select(others))
        vectors += found
    if not tables:
        raise UsageError("the run has no rows yet")
    if len({len(vector) for vector in vectors}) > 1:
        raise UsageError("the embeddings of the units differ in their length: they are of different checkpoints")
    table = pa.concat_tables(tables)
    rows = last_rows(table["id"])
    table, features = table.take(pa.array(rows)), np.stack([vectors[row] for row in rows])
    if (bad := np.flatnonzero(~np.isfinite(features).all(axis=1))).size:
        ids = [repr(name) for name in table["id"].take(pa.array(bad[:3])).to_pylist()]
        raise UsageError(
            f"embeddings of {counted(len(bad), 'unit')} are not finite: {first_of(ids)}. Leave them out with --where, "
            "or predict them again with --array-dtype float32"
        )
    return table, features


def _features(batch: pa.RecordBatch, pooling: Pooling) -> Iterator[np.ndarray]:
    """Yield the features float32 [F] of each row; latents are pooled by the code of a run with a probe."""
    if "embedding" in batch.schema.names:
        yield from (value.astype(np.float32, copy=False) for value in _lists(batch.column("embedding")))
        return
    import torch

    counts = (batch.column(name).to_pylist() for name in LATENT_COLUMNS[1:])
    for flat, number, width in zip(_lists(batch.column("latents")), *counts, strict=True):
        row = {"latents": flat, "num_latents": number, "d_latents": width}
        latents = torch.from_numpy(latents_from_row(row).astype(np.float32))
        yield pool(latents, [len(latents)], pooling)[0].numpy()


def _lists(column: pa.Array) -> Iterator[np.ndarray]:
    """Yield the values of each list, without a copy."""
    for value in column:
        yield value.values.to_numpy(zero_copy_only=False)

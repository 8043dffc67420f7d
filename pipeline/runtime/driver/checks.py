"""Checks before any work: INPUT, OUTPUT and the checkpoint exist and fit together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.checkpoints import CheckpointError, digest, fetch
from pipeline.heads import Head, head_for
from pipeline.heads.latent_columns import LATENT_COLUMNS
from pipeline.perceiver.checkpoint_loading import check_weights, read_config
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions, require_task
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.plan.plan_files import read_segments
from pipeline.runtime.records.committed import PREDICTIONS
from pipeline.runtime.records.run_file import read_run
from pipeline.runtime.stages.model_runner import output_columns
from pipeline.sandbox import ResourceLimits
from pipeline.sinks.schema import output_schema, with_plain_types
from pipeline.sources import Source, SourceOptions, discover, source_for
from pipeline.sources.stored_latents_source import STORED_LATENTS
from pipeline.storage import Entry, Store
from pipeline.storage.uris import check_uri


@dataclass(frozen=True, kw_only=True)
class CheckedRun:
    """A run whose INPUT, OUTPUT and checkpoint exist and fit together."""

    input: str  # for `discover`
    source: Source
    inputs: Store
    kept: pa.Schema  # columns of INPUT in the rows
    output: Store
    checkpoint: str  # for replicas, on every node
    digest: str
    head: Head
    stored: str | None  # name of the run whose latents are decoded, if any
    named: bool  # units have ids of their own, which must be unique
    latent_bytes: int  # per unit, if rows keep latents


def check_run(options: RunOptions) -> CheckedRun:
    """Check INPUT, OUTPUT, checkpoint and options without a cluster.

    Raises UsageError, AccessError or CheckpointError. Writes nothing but the probe that OUTPUT is writable.
    """
    require_task(options.task)
    folder = fetch(check_uri(options.checkpoint))
    check_weights(folder)
    head, checkpoint = _head(options, folder), digest(folder)
    source, stored, named = _source(options, head), None, options.id_column is not None
    if options.from_latents is not None:
        stored = _stored_run(options.from_latents, checkpoint)
        named = len(read_segments(Store(options.from_latents))) > 1  # a changed input has rows in several segments
    uri = options.input if options.from_latents is None else f"{options.from_latents.rstrip('/')}/{PREDICTIONS}"
    found = discover(uri, source)
    first = next(found.entries)
    with isolated(source, read_limits(options)) as opened:
        kept = _kept(options, opened, found.store, chain([first], found.entries))
        next(iter(opened.pieces(found.store, first)), None)  # raises if the first file lacks the column
    columns = output_columns(head, options.array_dtype if options.latents else None)
    try:
        output_schema(columns, kept)
    except ValueError as error:  # a kept column has the name of an output column
        raise UsageError(str(error)) from error
    output = Store(options.output, single_writer=options.single_writer)
    output.check_writable()
    return CheckedRun(
        input=uri,
        source=source,
        inputs=found.store,
        kept=kept,
        output=output,
        checkpoint=str(folder.resolve()) if _is_local(options.checkpoint) else options.checkpoint,
        digest=checkpoint,
        head=head,
        stored=stored,
        named=named,
        latent_bytes=_latent_bytes(folder, options.array_dtype) if options.latents else 0,
    )


def _kept(options: RunOptions, source: Source, store: Store, entries: Iterator[Entry]) -> pa.Schema:
    """Return the schema of the kept columns, from the first file that is not damaged."""
    kept = pa.schema([])
    for entry in entries:
        kept = with_plain_types(source.kept(store, entry))
        if len(kept) == len(options.keep_columns):
            break
    return kept


def _head(options: RunOptions, folder: Path) -> Head:
    try:
        return head_for(options.task, folder, options.head_options())
    except CheckpointError:
        raise
    except ValueError as error:  # an option that this head does not support
        raise UsageError(str(error)) from error


def _source(options: RunOptions, head: Head) -> Source:
    """Return the source of INPUT, or of stored latents, configured for the head; UsageError for a wrong option."""
    asked = {
        "medium": head.medium,
        "clip_spec": head.clip_spec,
        "piece_units": options.shard_size,
        **options.source_options(),
    }
    try:
        if options.from_latents is None:
            return source_for(options.input_format, SourceOptions(**asked))
        return STORED_LATENTS.configured(SourceOptions(**{**asked, "columns": (*LATENT_COLUMNS, *head.stored_columns)}))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _stored_run(uri: str, checkpoint: str) -> str:
    """Return the name of the run in an OUTPUT; UsageError if its latents are of another checkpoint."""
    run = read_run(Store(uri))
    if run.fingerprint["checkpoint"] != checkpoint:
        raise UsageError(
            f"the checkpoint has the digest {checkpoint}, but the latents in {uri} were made by one with the digest "
            f"{run.fingerprint['checkpoint']}: use that checkpoint"
        )
    return run.run


def _latent_bytes(folder: Path, dtype: str) -> int:
    """Return the bytes of the latents [N, D] of one unit."""
    config = read_config(folder)
    return int(config.num_latents * config.d_latents * np.dtype(dtype).itemsize)


def _is_local(ref: str) -> bool:
    """Return whether a checkpoint is a local folder, whose path must be made absolute for replicas."""
    return Path(ref.removeprefix("file://")).expanduser().is_dir()


def read_limits(options: RunOptions) -> ResourceLimits | None:
    """Return the limits for reading a unit or opening a file; None if inputs are trusted."""
    if options.trusted_inputs:
        return None
    return ResourceLimits(seconds=options.unit_seconds, memory_bytes=int(options.unit_memory * 2**30))

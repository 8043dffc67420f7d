"""Checks before any work: INPUT, OUTPUT and the checkpoint exist and fit together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, tee
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.checkpoints import fetch, shipped_ref, unchanged
from pipeline.checkpoints.shipped import DEMO
from pipeline.heads import Head, head_for
from pipeline.heads.head import ColumnType
from pipeline.heads.image_config import describe_settings
from pipeline.heads.latent_columns import LATENT_COLUMNS, output_columns
from pipeline.runtime.driver.apart import check_apart
from pipeline.runtime.early_checks import check_locations
from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import as_usage_errors
from pipeline.runtime.options import RunOptions, require_task
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.plan.plan_files import read_segments
from pipeline.runtime.ray_release import require_supported_ray
from pipeline.runtime.records.committed import PREDICTIONS
from pipeline.runtime.records.image_rules import ImageRules, image_rules
from pipeline.runtime.records.run_file import Run, find_run, known_assumptions, read_run
from pipeline.runtime.stages.known_labels import KNOWN_LABEL, KnownLabels
from pipeline.sandbox import ResourceLimits
from pipeline.sinks.run_records import DamagedRecord
from pipeline.sinks.schema import kept_names, with_plain_types
from pipeline.sources import Listing, Source, SourceOptions, discover, source_for
from pipeline.sources.access import find_witness
from pipeline.sources.label_files import read_label_file
from pipeline.sources.source import ColumnMismatch, NoMediumColumn
from pipeline.sources.stored_latents_source import STORED_LATENTS
from pipeline.storage import Entry, Store


@dataclass(frozen=True, kw_only=True)
class CheckedRun:
    """A run whose INPUT, OUTPUT and checkpoint exist and fit together."""

    input: str  # for `discover`
    source: Source
    source_cut_by: Callable[[int], Source]  # the same, which cuts files into pieces of so many units
    inputs: Store
    witness: str  # key of a file of INPUT that can be read
    limits: ResourceLimits | None  # for reading a unit or opening a file; None if inputs are trusted
    kept: pa.Schema  # columns of INPUT that are read besides the medium
    keep_columns: tuple[str, ...]  # those that the rows have
    labels: KnownLabels | None  # where known labels come from
    rules: ImageRules
    columns: dict[str, ColumnType]  # of the predictions
    output: Store
    checkpoint: str  # for replicas, on every node
    folder: Path  # of the checkpoint on this machine
    digest: str
    assumed: tuple[str, ...]  # by loading the checkpoint, for the user
    head: Head
    stored: str | None  # name of the run whose latents are decoded, if any
    named: bool  # units have ids of their own, which must be unique
    notes: tuple[str, ...]  # what is assumed about the checkpoint and kept columns, for the user

    @property
    def carried(self) -> pa.Schema:
        """Columns that a row has from its input: kept ones, the known label, and those that reading an image adds."""
        known = [] if self.labels is None else [pa.field(KNOWN_LABEL, pa.string())]
        kept = [field for field in self.kept if field.name in self.keep_columns]
        return pa.schema([*kept, *known, *self.rules.columns])

    def listing(self) -> Listing:
        """List INPUT afresh."""
        return discover(self.input, self.source, self.output)


def check_run(options: RunOptions) -> CheckedRun:
    """Check INPUT, OUTPUT, checkpoint and options without a cluster.

    Raises UsageError, AccessError or CheckpointError. Writes nothing but the probe that OUTPUT is writable.
    """
    require_supported_ray()
    require_task(options.task)
    check_locations(options)
    ref = shipped_ref(options.checkpoint, options.task)
    folder = fetch(ref)
    with unchanged(folder) as checkpoint:
        notes = [f"checkpoint: the local folder {ref} is used, not the shipped one"] if ref == DEMO else []
        with as_usage_errors():  # an option that this head or source does not support
            output = Store(options.output, single_writer=options.single_writer)
            earlier = _earlier_run(output, is_repair=options.repair)
            assumed = _check_weights(folder, checkpoint, earlier)
            head = head_for(options.task, folder, options.head_options(checkpoint))
            rules = image_rules(options, head.medium, earlier)
            source_cut_by = partial(_source, options, head, rules)
            source = source_cut_by(options.shard_size)
        notes += assumed
        notes += describe_settings(folder) if head.medium == "image" else []
        notes += rules.notes
    uri, stored, named = _input(options, checkpoint)
    check_apart(uri, output)
    found = discover(uri, source, output)
    witness, kept = _check_files(source, found, options.limits(), len(options.columns_to_keep))
    labels = _known_labels(options)
    notes += labels.file.notes if labels and labels.file else []
    columns = output_columns(head, options.latent_dtype)
    notes += _renamed_columns(
        columns, [*options.keep_columns, *([KNOWN_LABEL] if labels else []), *rules.columns.names]
    )
    output.check_writable()
    is_local = Path(ref.removeprefix("file://")).expanduser().is_dir()
    return CheckedRun(
        input=uri,
        source=source,
        source_cut_by=source_cut_by,
        inputs=found.store,
        witness=witness,
        limits=options.limits(),
        kept=kept,
        keep_columns=options.keep_columns,
        labels=labels,
        rules=rules,
        columns=columns,
        output=output,
        checkpoint=str(folder.resolve()) if is_local else ref,
        folder=folder,
        digest=checkpoint,
        assumed=tuple(assumed),
        head=head,
        stored=stored,
        named=named,
        notes=tuple(notes),
    )


def _known_labels(options: RunOptions) -> KnownLabels | None:
    """Return where known labels come from, None if the rows have none. AccessError if a file of them cannot be read."""
    if options.labels is not None:
        return KnownLabels(file=read_label_file(options.labels))
    if options.label_from is not None:
        return KnownLabels(folder=True)
    return None if options.label_column is None else KnownLabels(column=options.label_column)


def _earlier_run(output: Store, *, is_repair: bool) -> Run | None:
    """Return the run in OUTPUT; None if there is none, or a damaged run.json that a repair will set aside."""
    try:
        return find_run(output)
    except DamagedRecord:
        if is_repair:
            return None
        raise


def _check_weights(folder: Path, digest: str, earlier: Run | None) -> list[str]:
    """Check that the weights are those of the configuration; return what loading them will assume.

    A CheckpointError is raised here rather than in every worker. If this software began the earlier run in OUTPUT with
    the same checkpoint, the result is in run.json, and the engine, which takes two seconds to import, is not needed.
    """
    known = known_assumptions(earlier, digest)
    if known is not None:
        return known
    from pipeline.perceiver import PerceiverIO

    return PerceiverIO.check_pretrained(folder)


def _input(options: RunOptions, checkpoint: str) -> tuple[str, str | None, bool]:
    """Return the URI to read; of stored latents also the name of their run; and whether units have ids of their own."""
    if options.from_latents is None:
        return options.input, None, options.id_column is not None
    uri = f"{options.from_latents.rstrip('/')}/{PREDICTIONS}"
    is_changed = len(read_segments(Store(options.from_latents))) > 1  # a changed input has rows in several segments
    return uri, _stored_run(options.from_latents, checkpoint), is_changed


def _check_files(source: Source, found: Listing, limits: ResourceLimits | None, kept: int) -> tuple[str, pa.Schema]:
    """Return the key of a file that can be read, and the schema of the `kept` columns. AccessError if none can."""
    entries, tried = tee(found.entries)
    witness = find_witness(found.store, tried)
    del tried  # which would keep all entries in memory
    with isolated(source, limits) as opened:
        return witness, _check_first_file(opened, found, entries, kept)


def _renamed_columns(columns: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    """Say which kept columns are written by another name. UsageError if a column is in the rows twice."""
    with as_usage_errors():
        names = kept_names(columns, others)
    return [
        f"the kept column {name} is written as {new}: the output has its own column {name}"
        for name, new in names.items()
        if new != name
    ]


def _check_first_file(source: Source, found: Listing, entries: Iterator[Entry], kept: int) -> pa.Schema:
    """Plan the first file, to refuse INPUT of another kind, and return the schema of the `kept` columns.

    The schema is that of the first file that is not damaged.
    """
    first = next(entries)
    schemas = (_kept(source, found, entry) for entry in chain([first], entries))
    schema = next((schema for schema in schemas if len(schema) == kept), pa.schema([]))
    try:
        next(iter(source.pieces(found.store, first)), None)
    except NoMediumColumn as error:
        if found.reason_without_column(first, error) is None:
            raise
    return schema


def _kept(source: Source, found: Listing, entry: Entry) -> pa.Schema:
    """Return the schema of the kept columns of one file, empty for a file that is left out because it lacks one."""
    try:
        return with_plain_types(source.kept(found.store, entry))
    except ColumnMismatch as error:
        if found.reason_without_column(entry, error) is None:
            raise
        return pa.schema([])


def _source(options: RunOptions, head: Head, rules: ImageRules, piece_units: int | None) -> Source:
    """Return the source of INPUT, or of stored latents, configured for the head; ValueError for a wrong option."""
    asked: dict[str, Any] = {"medium": head.medium, "clip_spec": head.clip_spec, "piece_units": piece_units}
    if head.medium != "text" and options.blank_text != "predict":
        raise ValueError(f"blank_text ({options.blank_text}) is not supported for {head.task}: it reads no texts")
    asked |= options.source_options() | ({"transparency": rules.transparency} if rules.transparency else {})
    if options.from_latents is None:
        return source_for(options.input_format, SourceOptions(**asked))
    return STORED_LATENTS.configured(SourceOptions(**{**asked, "columns": (*LATENT_COLUMNS, *head.stored_columns)}))


def _stored_run(uri: str, checkpoint: str) -> str:
    """Return the name of the run in an OUTPUT; UsageError if its latents are of another checkpoint."""
    run = read_run(Store(uri))
    if run.fingerprint["checkpoint"] != checkpoint:
        raise UsageError(
            f"the checkpoint has the digest {checkpoint}, but the latents in {uri} were made by one with the digest "
            f"{run.fingerprint['checkpoint']}: use that checkpoint"
        )
    return run.run

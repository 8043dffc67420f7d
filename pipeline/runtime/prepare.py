"""What is checked before any work, and frozen: access, checkpoint, cluster, fingerprint, plan. In this order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.heads import HEADS, Head, head_for
from pipeline.perceiver.checkpoint import CheckpointError, digest, fetch
from pipeline.runtime.cluster import Resources, connected, nodes, resolve
from pipeline.runtime.dataset import Stages
from pipeline.runtime.errors import UsageError
from pipeline.runtime.fingerprint import Run, claim, new_run
from pipeline.runtime.load import Loader
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan import Cut, Plan, freeze
from pipeline.runtime.replica import ModelRef
from pipeline.runtime.write import Writer
from pipeline.sources import SOURCES, Source, SourceOptions, find, source_for
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the user named, found to be there and to fit together."""

    source: Source
    inputs: Store
    output: Store
    checkpoint: str  # as replicas find it
    digest: str
    head: Head


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run whose plan is frozen, ready to go."""

    options: RunOptions
    output: Store
    run: Run
    plan: Plan
    stages: Stages


@contextmanager
def prepared(options: RunOptions) -> Iterator[Prepared]:
    """The checked and frozen run, connected to its Ray cluster for the time of the block.

    UsageError, AccessError or CheckpointError where it cannot be run as asked: nothing was predicted then.
    """
    checked = check(options)
    with connected(options.address):
        resources = resolve(options, nodes())
        run = claim(
            checked.output,
            new_run(
                options,
                input_uri=Store(options.input).uri,
                head=checked.head,
                digest=checked.digest,
                dtype=resources.dtype,
            ),
        )
        cut = Cut(unit_bytes=checked.head.unit_bytes, shard_size=options.shard_size, limit=options.limit)
        redo = options.changed == "redo"
        plan = freeze(checked.output, checked.source, lambda: find(options.input, checked.source), cut, redo=redo)
        stages = _stages(checked, run, resources, options.batch_size)
        yield Prepared(options=options, output=checked.output, run=run, plan=plan, stages=stages)


def check(options: RunOptions) -> Checked:
    """INPUT, OUTPUT and the checkpoint, without a cluster: whether they are there and fit the task."""
    source = _source(options)
    inputs = find(options.input, source).store
    output = Store(options.output, single_writer=options.single_writer)
    output.probe()
    folder = fetch(options.checkpoint)
    head = _head(options, folder)
    ref = str(folder.resolve()) if _is_local(options.checkpoint) else options.checkpoint
    return Checked(source=source, inputs=inputs, output=output, checkpoint=ref, digest=digest(folder), head=head)


def _stages(checked: Checked, run: Run, resources: Resources, batch_size: int | str) -> Stages:
    """What the workers get."""
    output, head = checked.output, checked.head
    return Stages(
        loader=Loader(inputs=checked.inputs, output=output, source=checked.source, head=head),
        model=ModelRef(
            checkpoint=checked.checkpoint,
            digest=checked.digest,
            device=resources.device,
            dtype=resources.dtype,
            threads=resources.threads,
        ),
        head=head,
        writer=Writer(output=output, run=run.run, columns=head.columns),
        batch_size=batch_size,
        resources=resources,
    )


def _head(options: RunOptions, folder: Path) -> Head:
    try:
        return head_for(options.task, folder, options.head_options())
    except CheckpointError:
        raise
    except ValueError as error:  # an option that means nothing to this head
        raise UsageError(str(error)) from error


def _source(options: RunOptions) -> Source:
    if options.task not in HEADS:
        raise UsageError(f"task {options.task!r} is none of {', '.join(HEADS)}")
    name = HEADS[options.task].source if options.input_format == "auto" else options.input_format
    if name not in SOURCES:
        raise UsageError(f"input_format {name!r} is none of {', '.join(['auto', *SOURCES])}")
    try:
        return source_for(name, SourceOptions(column=options.column))
    except ValueError as error:  # an option that means nothing to this source
        raise UsageError(str(error)) from error


def _is_local(ref: str) -> bool:
    """Whether a checkpoint is a folder here; replicas have another working folder, so its path must be absolute."""
    return Path(ref.removeprefix("file://")).expanduser().is_dir()

"""Preparation of a run: connect to the cluster, freeze the plan, claim OUTPUT, configure the stages."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.runtime.driver.checks import CheckedRun, check_run
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.repair import check_plan, repair
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.duplicate_ids import check_unique_ids
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.plan.kept_plan import check_input_format, kept_plan_notes
from pipeline.runtime.plan.plan_files import delete_segments, read_segments
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.retry_quarantined import freeze_retry_segment
from pipeline.runtime.plan.shard_sizes import ShardSizing, expected_seconds
from pipeline.runtime.ray_backend.cluster import cluster_nodes
from pipeline.runtime.ray_backend.connect import ray_connection
from pipeline.runtime.ray_backend.passes import StageConfig
from pipeline.runtime.ray_backend.resources import Resources, resolve_resources
from pipeline.runtime.records.claim import Claim, claiming
from pipeline.runtime.records.dataset_card import put_card
from pipeline.runtime.records.listing import ListedInputs, put_listing
from pipeline.runtime.records.run_file import Run, new_run
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.unit_reader import Loader
from pipeline.runtime.stages.write import Writer
from pipeline.sinks.schema import output_schema
from pipeline.sources import Listing
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A checked run with a frozen plan. `listed`: counts of the listing that the plan was made from."""

    options: RunOptions
    output: Store
    run: Run
    plan: Plan
    listed: ListedInputs
    stages: StageConfig
    notes: tuple[str, ...]  # for the user: what is assumed about the checkpoint and kept columns, and what is replaced


@contextmanager
def prepare_run(options: RunOptions, display: Display | None = None) -> Iterator[PreparedRun]:
    """Check and freeze a run, and stay connected to its Ray cluster in the block.

    display: shows the phases of the preparation; None shows nothing. Raises UsageError, AccessError or CheckpointError
    before anything is predicted.
    """
    display = display or Display(quiet=True)
    with display.phase("checking the checkpoint and INPUT"):
        checked = check_run(options)
    with ExitStack() as stack:
        with display.phase("connecting to Ray"):
            stack.enter_context(ray_connection(options.address))
        resources = resolve_resources(options, cluster_nodes())
        wanted = _new_run(options, checked, resources.dtype)
        schema = output_schema(checked.columns, checked.carried)
        repaired = repair(checked.output, wanted, schema.names, checked.listing) if options.repair else []
        with claiming(checked.output, wanted, delete_segments) as claim:
            with display.phase("listing INPUT and planning"):
                plan, run = _freeze(options, checked, claim, resources), claim.take()
            assert plan.listing is not None
            earlier = Plan(segments=plan.segments[: plan.earlier])
            put_card(checked.output)
            listed = put_listing(checked.output, run.run, plan.listing)
            stages = _stage_config(options, checked, run, resources)
            yield PreparedRun(
                options=options,
                output=checked.output,
                run=run,
                plan=plan,
                listed=listed,
                stages=stages,
                notes=(*checked.notes, *repaired, *claim.notes, *kept_plan_notes(options, run, earlier)),
            )


def _freeze(options: RunOptions, checked: CheckedRun, claim: Claim, resources: Resources) -> Plan:
    """Plan new inputs, and with `retry_quarantined` the units in quarantine; return the whole plan.

    OUTPUT is claimed when all plan files are written: a command that planning refuses leaves nothing in it.
    """
    sizing = ShardSizing(
        unit_bytes=checked.head.unit_bytes + checked.latent_bytes,
        unit_seconds=expected_seconds(checked.unit_flops / options.devices_per_replica, resources.device),
        passes=checked.head.passes,
        growth=checked.head.bytes_per_medium_byte,
        replicas=resources.replicas,
        shard_size=options.shard_size,
        limit=options.limit,
    )
    output, redo, kept = checked.output, options.changed == "redo", checked.kept
    with isolated(checked.source_cut_by(sizing.piece_units), checked.limits) as source:

        def discover() -> Listing:
            if checked.named:
                check_unique_ids(source, checked.listing())
            return checked.listing()

        run = claim.take().run if claim.check() else None
        if run:
            check_plan(output, run, Plan(segments=read_segments(output)))
            check_input_format(options, output, claim.take())
        take = None if run else lambda: claim.take().run
        plan = freeze_plan(output, source, discover, sizing, redo=redo, kept=kept, run=run, claim=take)
        if options.retry_quarantined:
            freeze_retry_segment(output, claim.take(), plan, source, checked.listing, sizing)
        return plan


def _new_run(options: RunOptions, checked: CheckedRun, dtype: str) -> Run:
    """Return the run with the fingerprint for run.json."""
    source_options = options.source_options() | checked.rules.fingerprint
    if len(checked.kept):
        source_options["keep"] = {field.name: str(field.type) for field in checked.kept}
    if checked.stored is not None:
        source_options["from_latents"] = checked.stored
    if options.latents:
        source_options["latents"] = options.array_dtype
    uri, head = Store(checked.input).uri, checked.head
    return new_run(options, input_uri=uri, head=head, digest=checked.digest, dtype=dtype, source_options=source_options)


def _stage_config(options: RunOptions, checked: CheckedRun, run: Run, resources: Resources) -> StageConfig:
    """Return the configuration for workers."""
    loader = Loader(
        inputs=checked.inputs,
        output=checked.output,
        source=checked.source,
        head=checked.head,
        run=run.run,
        kept=checked.carried,
        stored=checked.stored is not None,
        witness=checked.witness,
        limits=checked.limits,
    )
    model = ModelRef(
        checkpoint=checked.checkpoint,
        digest=checked.digest,
        device=resources.device,
        dtype=resources.dtype,
        threads=resources.threads,
        devices=options.devices_per_replica,
    )
    replica = {
        "ref": model,
        "head": checked.head,
        "batch_size": options.batch_size,
        "keep_latents": options.latent_dtype,
    }
    writer = Writer(output=checked.output, run=run.run, columns=checked.columns, kept=checked.carried)
    return StageConfig(
        loader=loader, replica=replica, writer=writer, resources=resources, stall_timeout=options.stall_timeout
    )

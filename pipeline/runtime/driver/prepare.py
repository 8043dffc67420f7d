"""Preparation of a run: claim OUTPUT, hold INPUT against the plan, plan what is new, configure the stages."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial

from pipeline.runtime.driver.checks import CheckedRun, check_run
from pipeline.runtime.driver.cluster import Cluster
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.output_state import OutputState, read_state
from pipeline.runtime.driver.repair import repair
from pipeline.runtime.driver.sizing import shard_sizing
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.duplicate_ids import check_unique_ids
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.plan.kept_plan import check_input_format, kept_plan_notes
from pipeline.runtime.plan.new_inputs import NewInputs, find_new_inputs
from pipeline.runtime.plan.plan_files import delete_segments, read_segments
from pipeline.runtime.plan.planned_parts import check_plan
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.quarantined_files import quarantined_files
from pipeline.runtime.plan.retry_quarantined import freeze_retry_segment
from pipeline.runtime.ray_backend.passes import StageConfig
from pipeline.runtime.ray_backend.resources import Resources
from pipeline.runtime.records.claim import Claim, claiming
from pipeline.runtime.records.dataset_card import put_card
from pipeline.runtime.records.listing import ListedInputs, put_listing
from pipeline.runtime.records.run_file import Run, new_run
from pipeline.sinks.schema import output_schema
from pipeline.sources import Listing
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A checked run with a frozen plan.

    `listed`: counts of the listing that the plan was made from. `state`: what was committed before inputs were planned.
    `stages`: connects to the cluster unless that is done, and returns the configuration of the stages.
    """

    options: RunOptions
    output: Store
    run: Run
    plan: Plan
    listed: ListedInputs
    state: OutputState
    stages: Callable[[], StageConfig]
    notes: tuple[str, ...]  # for the user: what is assumed about the checkpoint and kept columns, and what is replaced


@contextmanager
def prepare_run(options: RunOptions, display: Display | None = None) -> Iterator[PreparedRun]:
    """Check and freeze a run; a connection to its Ray cluster ends with the block.

    The cluster is connected to when inputs are planned or the stages are configured. display: shows the phases of the
    preparation; None shows nothing. Raises UsageError, AccessError or CheckpointError before anything is predicted.
    """
    display = display or Display(quiet=True)
    with display.phase("checking the checkpoint and INPUT"):
        checked = check_run(options)
    with ExitStack() as connection:
        cluster = Cluster(options=options, display=display, connection=connection)
        wanted = _new_run(options, checked, cluster.dtype(checked.output))
        schema = output_schema(checked.columns, checked.carried)
        repaired = repair(checked.output, wanted, schema.names, checked.listing) if options.repair else []
        with claiming(checked.output, wanted, delete_segments) as claim:
            plan, state = _freeze(checked, claim, cluster)
            run = claim.take()
            assert plan.listing is not None
            earlier = Plan(segments=plan.segments[: plan.earlier])
            put_card(checked.output)
            listed = put_listing(checked.output, run.run, plan.listing)
            yield PreparedRun(
                options=options,
                output=checked.output,
                run=run,
                plan=plan,
                listed=listed,
                state=state,
                stages=cache(partial(_configure, checked, run, cluster)),
                notes=(*checked.notes, *repaired, *claim.notes, *kept_plan_notes(options, run, earlier)),
            )


def _freeze(checked: CheckedRun, claim: Claim, cluster: Cluster) -> tuple[Plan, OutputState]:
    """Plan new inputs, and with `retry_quarantined` the units in quarantine; return the whole plan and what is done.

    A new OUTPUT is claimed when all plan files are written: a command that planning refuses leaves nothing in it.
    """
    options, output, display = cluster.options, checked.output, cluster.display
    if not claim.check():
        resources = cluster.connect()
        with display.phase("listing INPUT and planning"):
            plan = _plan(options, checked, claim, resources, None)
            return plan, read_state(output, claim.take().run, plan)
    run = claim.take()
    plan = Plan.of(read_segments(output))
    state = read_state(output, run.run, plan)
    check_plan(output, run.run, plan, state.parts.shards)
    check_input_format(options, output, run)
    with display.phase("listing INPUT"):
        new = find_new_inputs(output, plan, checked.listing, options.limit, redo=options.changed == "redo")
    is_retry = options.retry_quarantined and any(quarantined_files(output, run, plan.segments))
    if new.entries is None and not is_retry:
        return plan, state
    resources = cluster.connect_for(run, output)
    with display.phase("planning"):
        return _plan(options, checked, claim, resources, new), state


def _plan(options: RunOptions, checked: CheckedRun, claim: Claim, resources: Resources, new: NewInputs | None) -> Plan:
    """Plan the new inputs, None if OUTPUT has no plan yet, and units in quarantine if the options ask for it."""
    output, sizing = checked.output, shard_sizing(options, checked, resources)
    with isolated(checked.source_cut_by(sizing.piece_units), checked.limits) as source:

        def discover() -> Listing:
            if checked.named:
                check_unique_ids(source, checked.listing())
            return checked.listing()

        if checked.named and new is not None and new.entries is not None:
            check_unique_ids(source, checked.listing())
        redo, run = options.changed == "redo", claim.take().run if new else None
        take = None if new else lambda: claim.take().run
        plan = freeze_plan(output, source, discover, sizing, redo=redo, kept=checked.kept, run=run, claim=take, new=new)
        if options.retry_quarantined:
            freeze_retry_segment(output, claim.take(), plan, source, checked.listing, sizing)
        return plan


def _configure(checked: CheckedRun, run: Run, cluster: Cluster) -> StageConfig:
    """Return the configuration of the stages on the cluster, which is connected to unless that is done."""
    from pipeline.runtime.driver.stage_config import stage_config  # with the engine, which takes two seconds to import

    return stage_config(cluster.options, checked, run, cluster.connect_for(run, checked.output))


def _new_run(options: RunOptions, checked: CheckedRun, dtype: str) -> Run:
    """Return the run with the fingerprint for run.json."""
    source_options = options.source_options() | checked.rules.fingerprint
    if len(checked.kept):
        source_options["keep"] = {field.name: str(field.type) for field in checked.kept}
    if checked.labels is not None:
        source_options |= checked.labels.fingerprint
    if checked.stored is not None:
        source_options["from_latents"] = checked.stored
    if options.latents:
        source_options["latents"] = options.array_dtype
    uri, head = Store(checked.input).uri, checked.head
    return new_run(
        options,
        input_uri=uri,
        head=head,
        digest=checked.digest,
        dtype=dtype,
        source_options=source_options,
        assumed=checked.assumed,
    )

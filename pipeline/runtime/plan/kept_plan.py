"""What a frozen plan keeps although a later command gives another value."""

from collections.abc import Iterator

from pipeline.formatting import count, counted, share
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import read_segments
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.run_file import Run
from pipeline.storage import Store


def check_input_format(options: RunOptions, output: Store, run: Run) -> None:
    """Raise UsageError if remaining shards were planned with another input format, which cut their files otherwise."""
    planned = run.record.get("options", {}).get("input_format", options.input_format)
    if planned == options.input_format:
        return
    shards = Plan(segments=read_segments(output)).shards
    if left := shards - len(list_parts(output, run.run).shards):
        raise UsageError(
            f"the plan in {output.uri} was made with --input-format {planned}, and {share(left, shards, 'shard')} "
            f"left: {options.input_format} would read the files in another way. Use --input-format {planned}, or "
            "another OUTPUT"
        )


def kept_plan_notes(options: RunOptions, run: Run, earlier: Plan) -> Iterator[str]:
    """Yield a line for each option of a command that does not change the plan that OUTPUT had before it."""
    if not earlier.shards:
        return
    sized = run.record.get("options", {}).get("shard_size")
    if options.shard_size not in (None, sized):
        before = "without --shard-size" if sized is None else f"with --shard-size {sized}"
        yield (
            f"--shard-size {options.shard_size} applies to inputs that are not planned yet: the plan in OUTPUT, made "
            f"{before}, keeps its {counted(earlier.shards, 'shard')}. For other shards, use another OUTPUT"
        )
    if options.limit is not None and options.limit < earlier.estimated_units:
        planned = count(earlier.estimated_units)
        yield (
            f"--limit {options.limit} is not applied: the plan in OUTPUT has {planned} units already, and all of them "
            "are predicted. For fewer, use another OUTPUT"
        )

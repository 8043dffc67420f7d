"""Configuration of the stages of a run, which is sent to workers."""

from pipeline.runtime.driver.checks import CheckedRun
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_backend.passes import StageConfig
from pipeline.runtime.ray_backend.resources import Resources
from pipeline.runtime.records.run_file import Run
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.unit_reader import Loader
from pipeline.runtime.stages.write import Writer


def stage_config(options: RunOptions, checked: CheckedRun, run: Run, resources: Resources) -> StageConfig:
    """Return the configuration for workers on these resources."""
    loader = Loader(
        inputs=checked.inputs,
        output=checked.output,
        source=checked.source,
        head=checked.head,
        run=run.run,
        kept=checked.carried,
        labels=None if checked.labels is None else checked.labels.stored_in(checked.output),
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

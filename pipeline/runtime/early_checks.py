"""Checks of a run that take no time: they need neither the libraries of the model nor a listing of INPUT."""

from pipeline.checkpoints import read_model_class_early, shipped_ref
from pipeline.heads import check_model_class
from pipeline.runtime.option_errors import as_usage_errors
from pipeline.runtime.options import RunOptions, require_task
from pipeline.runtime.ray_release import require_supported_ray
from pipeline.storage import AccessError, check_uri
from pipeline.storage.absence import explain_absence
from pipeline.storage.schemes import require_readable, require_writable

_WILDCARDS = frozenset("*?[")


def check_early(options: RunOptions) -> None:
    """Check the release of Ray, the task, that INPUT exists, and as far as its config.json tells that the checkpoint is
    one of the task.

    Raises UsageError, AccessError or CheckpointError. What is only known later is checked by `driver.checks`.
    """
    require_supported_ray()
    require_task(options.task)
    check_locations(options)
    if options.input and _WILDCARDS.isdisjoint(options.input) and (absence := explain_absence(options.input)):
        raise AccessError(f"INPUT {options.input} {absence}")
    ref = shipped_ref(options.checkpoint, options.task)
    if (model_class := read_model_class_early(ref)) is not None:
        with as_usage_errors():
            check_model_class(options.task, model_class, ref, probed=options.probe is not None)


def check_locations(options: RunOptions) -> None:
    """Raise AccessError, before any request, if a location is not a valid URI or path, or its scheme cannot work."""
    for uri in (options.input, options.from_latents, options.checkpoint, options.probe, options.labels):
        if uri:
            require_readable(check_uri(uri))
    require_writable(check_uri(options.output))

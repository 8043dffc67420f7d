"""Options of a `Predictor`: those of a run that concern the model, its output and the reading of single items."""

from collections.abc import Mapping
from typing import Any

from pipeline.formatting import did_you_mean
from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import options_of
from pipeline.runtime.options import RunOptions, require_task

OPTIONS = (
    *("probe", "dtype", "device", "batch_size"),
    *("top_k", "logits", "latents", "arrays", "array_dtype", "points", "frames", "outputs"),
    *("blank_text", "fps", "start", "end", "max_side", "flow_scale", "clip_stride", "short_clip", "transparency"),
    *("unit_seconds", "unit_memory", "trusted_inputs"),
)
"""Names of the options, with the meaning and default that `RunOptions` gives them."""


def predictor_options(task: str, checkpoint: str, options: Mapping[str, Any]) -> RunOptions:
    """Return the options of a run with these values. Raise UsageError for unknown names and wrong values."""
    require_task(task)
    for name in options:
        if name not in OPTIONS:
            meant = did_you_mean(name, OPTIONS)
            raise UsageError(f"{name} is not an option of Predictor{meant}; the options are {', '.join(OPTIONS)}")
    return options_of(task=task, checkpoint=checkpoint, input="items", output="items", **options)

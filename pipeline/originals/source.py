"""How a run read INPUT, from what run.json records: the same source, with the same options, without the checkpoint."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.heads.clip_inputs import reduce_frame
from pipeline.media import ClipSpec, MediumKind
from pipeline.originals.preview import InputReader
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.run_file import EARLIER_FINGERPRINT, Run
from pipeline.sources import SourceOptions, source_for

_OF_TASK: Mapping[str, MediumKind] = {
    "fill-mask": "text",
    "text-classification": "text",
    "image-classification": "image",
    "optical-flow": "frame_pair",
    "multimodal-autoencoding": "clip",
}
_OF_TRANSFORM: Mapping[str, MediumKind] = {"crop": "image", "tile": "frame_pair", "max_length": "text"}


def medium_of(fingerprint: Mapping[str, Any]) -> MediumKind:
    """Return what the units of a run hold. Feature extraction depends on its checkpoint: its transform tells."""
    options = fingerprint["options"]
    if kind := _OF_TASK.get(fingerprint["head"]):
        return kind
    if "clip" in options:
        return "clip"
    transform = options.get("transform", {})
    return next((kind for name, kind in _OF_TRANSFORM.items() if name in transform), "array")


def input_reader(run: Run) -> InputReader | str:
    """Return how the run read INPUT, or why its originals cannot be shown."""
    medium, fingerprint = medium_of(run.fingerprint), run.fingerprint
    if fingerprint.get("from_latents") is not None:
        return "this run decoded stored latents and read no originals"
    if medium == "array":
        return "arrays have no preview"
    known = set(RunOptions.model_fields)
    options = RunOptions(**{name: value for name, value in run.record["options"].items() if name in known})
    values = options.source_options() | {"medium": medium, "piece_units": options.shard_size}
    values.pop("keep", None)  # kept columns are in the rows
    clip = fingerprint["options"].get("clip")
    if medium == "clip":
        values["clip_spec"] = ClipSpec(
            frames=clip["frames"],
            fps=float(clip["fps"]),
            samples=clip["samples"],
            sample_rate=clip["sample_rate"],
            reduce=partial(reduce_frame, height=clip["height"], width=clip["width"]),
        )
    if medium in ("image", "frame_pair"):
        values["transparency"] = (EARLIER_FINGERPRINT | fingerprint)["transparency"]
    source = source_for(options.input_format, SourceOptions(**values))
    if medium == "clip":
        return InputReader(source, medium, float(clip["fps"]), clip["sample_rate"])
    return InputReader(source, medium)

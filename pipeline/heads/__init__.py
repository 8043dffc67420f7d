"""The heads, one file per task: transform media into inputs, and model outputs into typed columns."""

from pathlib import Path

from pipeline.checkpoints import CheckpointError, read_model_class
from pipeline.heads.feature_extraction import FeatureExtraction
from pipeline.heads.fill_mask import FillMask
from pipeline.heads.head import JSON, ColumnType, Head, HeadOptions
from pipeline.heads.image_classification import ImageClassification
from pipeline.heads.multimodal_autoencoding import MultimodalAutoencoding
from pipeline.heads.optical_flow import OpticalFlow
from pipeline.heads.probed import PROBED_MEDIA, Probed
from pipeline.heads.text_classification import TextClassification

__all__ = ["HEADS", "JSON", "ColumnType", "Head", "HeadOptions", "check_model_class", "head_for"]

HEADS: dict[str, type[Head]] = {
    "fill-mask": FillMask,
    "text-classification": TextClassification,
    "image-classification": ImageClassification,
    "optical-flow": OpticalFlow,
    "multimodal-autoencoding": MultimodalAutoencoding,
    "feature-extraction": FeatureExtraction,
}


def head_for(task: str, folder: Path, options: HeadOptions) -> Head:
    """Create the head of a task for the checkpoint in a local folder.

    Raise ValueError for an unknown task, CheckpointError if the checkpoint has another model class, and what
    `Head.from_checkpoint` raises.
    """
    if task not in HEADS:
        raise ValueError(f"task {task!r} must be one of {', '.join(HEADS)}")
    check_model_class(task, read_model_class(folder), str(folder), probed=options.probe is not None)
    return (
        HEADS[task].from_checkpoint(folder, options) if options.probe is None else Probed.of_task(task, folder, options)
    )


def check_model_class(task: str, found: str, checkpoint: str, *, probed: bool = False) -> None:
    """Raise CheckpointError if the model class `found` of a checkpoint is not one of the task's.

    probed: A probe predicts, so that only the encoder of the checkpoint is used. ValueError if the task has no probes.
    """
    if probed:
        if task not in PROBED_MEDIA:
            raise ValueError(f"probe is not supported for {task}, but for {', '.join(PROBED_MEDIA)}")
        if found in FeatureExtraction.model_classes:
            return
    if found not in HEADS[task].model_classes:
        wanted = " or ".join(HEADS[task].model_classes)
        own = next((name for name, head in HEADS.items() if found in head.model_classes), None)
        hint = f". Use the task {own}, or another checkpoint" if own else ""
        raise CheckpointError(f"checkpoint {checkpoint} is a {found}; {task} needs a {wanted}{hint}")

"""The heads, one file per task: transform media into inputs, and model outputs into typed columns."""

from pathlib import Path

from pipeline.checkpoints import CheckpointError, read_model_class
from pipeline.heads.feature_extraction import FeatureExtraction
from pipeline.heads.fill_mask import FillMask
from pipeline.heads.head import JSON, ColumnType, Head, HeadOptions
from pipeline.heads.image_classification import ImageClassification
from pipeline.heads.multimodal_autoencoding import MultimodalAutoencoding
from pipeline.heads.optical_flow import OpticalFlow
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
    check_model_class(task, read_model_class(folder), str(folder))
    return HEADS[task].from_checkpoint(folder, options)


def check_model_class(task: str, found: str, checkpoint: str) -> None:
    """Raise CheckpointError if the model class `found` of a checkpoint is not one of the task's."""
    if found not in HEADS[task].model_classes:
        wanted = " or ".join(HEADS[task].model_classes)
        own = next((name for name, head in HEADS.items() if found in head.model_classes), None)
        hint = f". Use the task {own}, or another checkpoint" if own else ""
        raise CheckpointError(f"checkpoint {checkpoint} is a {found}; {task} needs a {wanted}{hint}")

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

__all__ = ["HEADS", "JSON", "ColumnType", "Head", "HeadOptions", "head_for"]

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
    head, found = HEADS[task], read_model_class(folder)
    if found not in head.model_classes:
        raise CheckpointError(f"{folder} is a {found}; {task} needs a {' or '.join(head.model_classes)}")
    return head.from_checkpoint(folder, options)

"""The heads, one file each: what turns media into inputs, and outputs into the rows of one task."""

from __future__ import annotations

from pathlib import Path

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
    """The head of a task for the checkpoint in a local folder.

    ValueError for a task that no head has; CheckpointError where the checkpoint is not of a class that the task needs.
    """
    if task not in HEADS:
        raise ValueError(f"task {task!r} is none of {', '.join(HEADS)}")
    return HEADS[task].from_checkpoint(folder, options)

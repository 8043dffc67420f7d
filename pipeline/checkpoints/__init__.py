"""Checkpoint files: found in a local folder or downloaded, read, and identified by a digest."""

from pipeline.checkpoints.digests import digest, unchanged
from pipeline.checkpoints.download import fetch, read_model_class_early
from pipeline.checkpoints.errors import CheckpointChanged, CheckpointError
from pipeline.checkpoints.files import check_content, parse_json, read_config, read_json, read_model_class, weight_files
from pipeline.checkpoints.shipped import shipped_ref

__all__ = [
    "CheckpointChanged",
    "CheckpointError",
    "check_content",
    "digest",
    "fetch",
    "parse_json",
    "read_config",
    "read_json",
    "read_model_class",
    "read_model_class_early",
    "shipped_ref",
    "unchanged",
    "weight_files",
]

"""Perceiver IO for inference, in plain torch: loads Hugging Face checkpoints unchanged.

model = PerceiverIO.from_pretrained("deepmind/vision-perceiver-fourier", dtype=torch.bfloat16)
latents = model.encode(images)     # once
logits = model.decode(latents)     # all output queries, or only the points asked for
"""

from pipeline.perceiver.fetch import CheckpointError
from pipeline.perceiver.model import PerceiverIO

__all__ = ["CheckpointError", "PerceiverIO"]

"""Perceiver IO for inference, in plain torch: loads Hugging Face checkpoints unchanged.

model = PerceiverIO.from_pretrained("deepmind/vision-perceiver-fourier", dtype=torch.bfloat16)
latents = model.encode(images)     # once
logits = model.decode(latents)     # all output queries, or only those at given points

`ShardedPerceiverIO` has the same methods over several devices, for units that are too large or too slow for one.
"""

from pipeline.checkpoints import CheckpointError
from pipeline.perceiver.model import PerceiverIO
from pipeline.perceiver.sharded import ShardedPerceiverIO

__all__ = ["CheckpointError", "PerceiverIO", "ShardedPerceiverIO"]

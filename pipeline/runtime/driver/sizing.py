"""Size of the shards of a run, from its model and the resources of its cluster."""

from pathlib import Path

import numpy as np

from pipeline.checkpoints import read_config
from pipeline.runtime.driver.checks import CheckedRun
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.shard_sizes import ShardSizing, expected_seconds
from pipeline.runtime.ray_backend.resources import Resources


def shard_sizing(options: RunOptions, checked: CheckedRun, resources: Resources) -> ShardSizing:
    """Return the size of shards on these resources."""
    from pipeline.perceiver import PerceiverIO
    from pipeline.perceiver.cost import estimate_unit_flops

    model, encode = PerceiverIO.without_weights(checked.folder), options.from_latents is None
    flops = estimate_unit_flops(model, encode=encode, decode=checked.head.decodes)
    return ShardSizing(
        unit_bytes=checked.head.unit_bytes + _latent_bytes(checked.folder, options.latent_dtype),
        unit_seconds=expected_seconds(flops / options.devices_per_replica, resources.device),
        passes=checked.head.passes,
        growth=checked.head.bytes_per_medium_byte,
        replicas=resources.replicas,
        shard_size=options.shard_size,
        limit=options.limit,
    )


def _latent_bytes(folder: Path, dtype: str | None) -> int:
    """Return the bytes of the latents [N, D] of one unit, 0 if rows do not keep them."""
    if dtype is None:
        return 0
    config = read_config(folder)
    return int(config.num_latents * config.d_latents * np.dtype(dtype).itemsize)

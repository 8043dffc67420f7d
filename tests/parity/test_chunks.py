"""Outputs decoded in chunks equal those decoded at once."""

import torch

from pipeline.reference import transformers_model
from pipeline.reference.published_configs import FLOW, MASKED_LM, MULTIMODAL
from pipeline.reference.sample_inputs import sample_inputs


def test_large_grid_of_flow(pair):
    both = pair(FLOW, train_size=[90, 101])
    both.assert_equal(sample_inputs(both.config, FLOW, batch=2))


def test_large_clip(pair):
    both = pair(MULTIMODAL, output_shape=[1, 2, 68, 64])
    both.assert_equal(sample_inputs(both.config, MULTIMODAL, batch=2))


def test_many_positions(pair):
    both = pair(MASKED_LM, max_position_embeddings=1999, d_model=256, num_latents=8)
    both.assert_equal(sample_inputs(both.config, MASKED_LM, batch=8)[:, :64])


def test_many_points_of_each_unit(pair, close):
    both = pair(FLOW, train_size=[90, 101])
    frames = sample_inputs(both.config, FLOW, batch=2)
    points = torch.stack([torch.randperm(9090, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    whole = transformers_model.predict(both.theirs, frames)["flow"].flatten(1, 2)
    expected = whole.gather(1, points.unsqueeze(-1).expand(-1, -1, 2))
    close(both.ours(frames, points=points), expected, "flow")

"""The six published shapes with random weights: the same parameters as transformers, and one unit within 8 GB."""

import pytest
import torch
from transformers.models.perceiver import modeling_perceiver

from pipeline.benchmark.peak_memory import measure_peak
from pipeline.perceiver import PerceiverIO
from pipeline.perceiver.state_dict_map import STATE_DICT_MAPS, UNUSED_NAMES, checkpoint_names
from pipeline.reference.parity import verify
from pipeline.reference.published_configs import SHAPES
from pipeline.reference.random_checkpoints import make_checkpoint

MEMORY = 8 * 2**30
MILLIONS = {
    "language-perceiver": 201.1,
    "vision-perceiver-learned": 62.3,
    "vision-perceiver-fourier": 48.4,
    "vision-perceiver-conv": 48.6,
    "optical-flow-perceiver": 41.1,
    "multimodal-perceiver": 19.9,
}
OUTPUTS = {
    "language-perceiver": {"latents": [1, 256, 1280], "logits": [1, 307, 262]},
    "vision-perceiver-learned": {"latents": [1, 512, 1024], "logits": [1, 1000]},
    "vision-perceiver-fourier": {"latents": [1, 512, 1024], "logits": [1, 1000]},
    "vision-perceiver-conv": {"latents": [1, 512, 1024], "logits": [1, 1000]},
    "optical-flow-perceiver": {"latents": [1, 2048, 512], "flow": [1, 368, 496, 2]},
    "multimodal-perceiver": {
        "latents": [1, 784, 512],
        "audio": [1, 30720],
        "image": [1, 16 * 224 * 224, 3],
        "label": [1, 700],
    },
}


def consumed_names(model):
    """Return the checkpoint's name of every tensor of the engine."""
    return [name for ours in model.state_dict() for name in checkpoint_names(ours, STATE_DICT_MAPS[model.model_class])]


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_of_transformers_is_mapped(name):
    shape = SHAPES[name]
    with torch.device("meta"):
        theirs = getattr(modeling_perceiver, shape.model_class)(shape.config())
        ours = PerceiverIO(shape.config(), shape.model_class)
    parameters = sum(parameter.numel() for parameter in theirs.parameters())
    assert round(parameters / 1e6, 1) == MILLIONS[name]

    tensors = theirs.state_dict()
    never_read = {key for key in tensors if key.endswith(UNUSED_NAMES)}
    consumed = [key for key in consumed_names(ours) if key not in never_read]
    assert sorted(consumed) == sorted(tensors.keys() - never_read)
    held = sum(x.numel() for key, x in ours.state_dict().items() if not key.endswith(UNUSED_NAMES))
    assert held == sum(x.numel() for x in tensors.values()) - sum(tensors[key].numel() for key in never_read)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_unit_is_predicted_within_eight_gigabytes(tmp_path, name):
    shape = SHAPES[name]
    folder = make_checkpoint(shape.model_class, shape.config(), tmp_path)
    peak_bytes, outputs = measure_peak(folder)
    assert outputs == OUTPUTS[name]
    assert peak_bytes < MEMORY, f"{name}: {peak_bytes / 2**30:.1f} GB"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_published_shape_equals_transformers(tmp_path, name):
    shape = SHAPES[name]
    folder = make_checkpoint(shape.model_class, shape.config(), tmp_path)
    for row in verify(shape.task, folder, dtypes=["float32"], chunks=2):
        assert row.relative < 1e-5, row

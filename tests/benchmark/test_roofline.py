"""The roofline counts the operations of the folded model, whichever operators compute them."""

from pathlib import Path

import pytest

from pipeline.benchmark.roofline import DeviceRates, OperationCounts, count_operations, measure_rates
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint


def test_counts_follow_from_the_shapes(tmp_path: Path) -> None:
    config = small(FOURIER)
    folder = make_checkpoint(FOURIER, config, tmp_path, 0)
    one, three = (count_operations(folder, batch=batch) for batch in (1, 3))
    assert three.exponentials == 3 * one.exponentials
    assert three.flops == pytest.approx(3 * one.flops, rel=0.02)  # work shared by all units is counted once
    latents, heads = config.num_latents, config.num_self_attention_heads
    layers = config.num_blocks * config.num_self_attends_per_block
    pixels = config.image_size**2
    # The latents attend to the pixels and to themselves, the one output query to the latents.
    assert one.exponentials == latents * pixels + layers * heads * latents**2 + latents
    waves = 2 * 64 + 1
    width, inputs = config.d_latents, 3 + 2 * waves
    self_attention = layers * latents * (2 * 4 * width**2 + 2 * 2 * latents * width + 2 * 2 * width**2)
    along = 160  # channels of a pixel: values, column and row one-hot of 20, padded to a multiple of 16
    of_rows = 2 * 2 * latents * waves * config.image_size
    across = 2 * 2 * latents * pixels * along + of_rows + latents * (2 * inputs * width + 2 * 2 * width**2)
    assert one.flops == pytest.approx(self_attention + across, rel=0.02)  # plus the decoder's single query


def test_count_does_not_depend_on_threads(tmp_path: Path) -> None:
    folder = make_checkpoint(FOURIER, small(FOURIER), tmp_path, 0)
    with torch_threads(1):
        expected = count_operations(folder, batch=2)
    with torch_threads(2):
        assert count_operations(folder, batch=2) == expected


@pytest.mark.slow
def test_device_rates_are_measured_in_each_dtype() -> None:
    for dtype in ("float32", "bfloat16"):
        rates = measure_rates(dtype, "cpu")
        assert 1e9 < rates.flops < 1e14
        assert 1e6 < rates.exponentials < 1e13
    assert OperationCounts(flops=20, exponentials=3).seconds(DeviceRates(flops=10.0, exponentials=1.0)) == 5.0

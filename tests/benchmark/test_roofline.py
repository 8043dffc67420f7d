"""The floor counts what the folded model multiplies and exponentiates, whichever operators do it."""

from pathlib import Path

import pytest

from pipeline.benchmark.roofline import Rates, Work, count_work, measure_rates
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint


def test_work_is_what_the_shapes_say(tmp_path: Path) -> None:
    config = small(FOURIER)
    folder = make_checkpoint(FOURIER, config, tmp_path, 0)
    one, three = (count_work(folder, batch=batch) for batch in (1, 3))
    assert three.exponentials == 3 * one.exponentials
    assert three.flops == pytest.approx(3 * one.flops, rel=0.02)  # what all units share is counted once
    latents, heads = config.num_latents, config.num_self_attention_heads
    layers = config.num_blocks * config.num_self_attends_per_block
    pixels = config.image_size**2
    # The latents look at the pixels and at themselves, the one output query at the latents.
    assert one.exponentials == latents * pixels + layers * heads * latents**2 + latents
    waves = 2 * 64 + 1
    width, inputs = config.d_latents, 3 + 2 * waves
    itself = layers * latents * (2 * 4 * width**2 + 2 * 2 * latents * width + 2 * 2 * width**2)
    along = 160  # of a pixel its values, its column and its row, of 20, and what is lacking to a multiple of 16
    of_rows = 2 * 2 * latents * waves * config.image_size
    across = 2 * 2 * latents * pixels * along + of_rows + latents * (2 * inputs * width + 2 * 2 * width**2)
    assert one.flops == pytest.approx(itself + across, rel=0.02)  # the decoder's single query comes on top


def test_what_lanes_compute_is_counted(tmp_path: Path) -> None:
    folder = make_checkpoint(FOURIER, small(FOURIER), tmp_path, 0)
    with torch_threads(1):
        expected = count_work(folder, batch=2)
    with torch_threads(2):
        assert count_work(folder, batch=2) == expected


def test_a_device_has_a_rate_in_each_dtype() -> None:
    for dtype in ("float32", "bfloat16"):
        rates = measure_rates(dtype, "cpu")
        assert 1e9 < rates.flops < 1e14
        assert 1e6 < rates.exponentials < 1e13
    assert Work(flops=20, exponentials=3).seconds(Rates(flops=10.0, exponentials=1.0)) == 5.0

"""A row holds the speed of the engine and of transformers on the same batch, and the error between their outputs."""

import pytest

from pipeline.benchmark.engine import BenchOptions, bench
from pipeline.reference.published_configs import FOURIER, MASKED_LM, MULTIMODAL, Shape, small

KEYS = {"head", "shape", "dtype", "device", "batch", "engine_seconds", "transformers_seconds", "max_abs_err"}
KEYS |= {"transformers_float32_seconds", "output_range", "peak_bytes", "params", "floor_seconds"}


def tiny(model_class):
    config = small(model_class)
    keys = ("num_latents", "d_latents", "d_model", "num_self_attends_per_block", "num_self_attention_heads")
    keys += ("num_cross_attention_heads", "num_frames", "audio_samples_per_frame", "samples_per_patch", "image_size")
    keys += ("output_shape", "output_num_channels", "max_position_embeddings", "num_labels")
    changes = {key: getattr(config, key) for key in keys}
    return Shape(name="tiny", model_class=model_class, changes=changes)


@pytest.mark.slow
def test_fill_mask_is_timed_in_both_dtypes():
    rows = bench(tiny(MASKED_LM), BenchOptions(repeats=3))
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["batch"] == 4
        least, greatest = row["engine_seconds_range"]
        assert 0 < least <= row["engine_seconds"] <= greatest
        assert row["transformers_seconds"] > 0
        assert row["max_abs_err"] < 0.1 * row["output_range"]
        assert row["peak_bytes"] > 2**20
        assert row["floor_seconds"] == pytest.approx(
            row["flops"] / row["device_flops_per_second"] + row["exponentials"] / row["device_exponentials_per_second"]
        )
    assert rows[0]["max_abs_err"] < 1e-5 * rows[0]["output_range"]


def test_images_are_timed_in_batches():
    (row,) = bench(tiny(FOURIER), BenchOptions(repeats=1, batch=3, dtypes=["float32"]))
    assert (row["batch"], row["worst_output"], row["extrapolated_from_chunks"]) == (3, "logits", None)
    assert row["transformers_seconds"] == row["transformers_float32_seconds"]


@pytest.mark.slow
def test_clip_is_extrapolated_and_failure_of_transformers_is_reported():
    shape = tiny(MULTIMODAL)
    (row,) = bench(shape, BenchOptions(repeats=1, dtypes=["bfloat16"]))
    assert row["transformers_seconds"] is None
    assert "dtype" in row["transformers_failure"]
    assert row["extrapolated_from_chunks"] == 2
    assert row["transformers_float32_seconds"] > 0
    assert row["engine_seconds"] > 0

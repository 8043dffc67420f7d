"""`verify` compares every output in every dtype, and small models agree with transformers."""

import pytest
from safetensors.torch import load_file, save_file

from pipeline.perceiver import CheckpointError
from pipeline.reference import transformers_model
from pipeline.reference.parity import TRANSFORMERS, UNFOLDED, spread_chunks, verify
from pipeline.reference.published_configs import BARE, FLOW, MASKED_LM, MULTIMODAL, SEQUENCE, SHAPES, TASKS, small
from pipeline.reference.random_checkpoints import make_checkpoint

CASES = [(task, name) for task, classes in TASKS.items() for name in classes]
OUTPUTS = {BARE: set(), FLOW: {"flow"}, MULTIMODAL: {"audio", "image", "label"}}
# Greatest difference that rounding explains, as a part of the output's range.
ROUNDING = {"float32": 1e-5, "bfloat16": 0.1}


@pytest.mark.parametrize(("task", "model_class"), CASES)
def test_each_task_is_verified_in_each_dtype(tmp_path, task, model_class):
    folder = make_checkpoint(model_class, small(model_class), tmp_path)
    rows = verify(task, folder, batch=2)
    outputs = {"latents"} if task == "feature-extraction" else {"latents"} | OUTPUTS.get(model_class, {"logits"})
    expected = [("float32", TRANSFORMERS), ("float32", UNFOLDED), ("bfloat16", TRANSFORMERS)]
    assert [(row.dtype, row.against) for row in rows] == [each for each in expected for _ in outputs]
    assert {row.output for row in rows} == outputs
    for row in rows:
        assert row.relative < ROUNDING[row.dtype], row
        assert row.relative == pytest.approx(row.max_abs_diff / row.range)


def test_single_value_has_no_range(tmp_path):
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE, num_labels=1), tmp_path)
    row = verify("text-classification", folder, dtypes=["float32"])[-1]
    assert (row.output, row.range) == ("logits", 0)
    assert row.relative < 1e-5


def test_another_seed_gives_other_units(tmp_path):
    folder = make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path)
    first, second = (verify("fill-mask", folder, dtypes=["float32"], seed=seed) for seed in (0, 1))
    assert [row.range for row in first] != [row.range for row in second]


def test_class_without_the_task_is_refused(tmp_path):
    folder = make_checkpoint(FLOW, small(FLOW), tmp_path)
    with pytest.raises(CheckpointError, match=r"PerceiverForOpticalFlow.*fill-mask needs PerceiverForMaskedLM"):
        verify("fill-mask", folder)


def test_names_that_transformers_would_not_read_are_refused(tmp_path):
    folder = make_checkpoint(MASKED_LM, small(MASKED_LM), tmp_path)
    weights = folder / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError, match=r"begin with module\..*save the model with save_pretrained"):
        verify("fill-mask", folder)


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="task 'summarise' must be one of fill-mask"):
        verify("summarise", make_checkpoint(FLOW, small(FLOW), tmp_path))


@pytest.mark.parametrize(("chunks", "numbers"), [(1, [0]), (2, [0, 127]), (3, [0, 64, 127]), (None, list(range(128)))])
def test_chunks_are_spread_over_the_clip(chunks, numbers):
    assert spread_chunks(SHAPES["multimodal-perceiver"].config(), chunks) == numbers


def test_chunks_are_those_of_the_documentation():
    config = SHAPES["multimodal-perceiver"].config()
    points = transformers_model.chunk_points(config, 3)
    assert points["label"] is None
    assert points["audio"].tolist() == list(range(45, 60))
    assert (int(points["image"][0]), len(points["image"])) == (3 * 6272, 6272)

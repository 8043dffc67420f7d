"""The estimated cost of a unit is near what torch counts while the engine predicts one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.perceiver import PerceiverIO
from pipeline.perceiver.cost import estimate_unit_flops
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference.parity import engine_predict
from pipeline.reference.published_configs import FLOW, FOURIER, MASKED_LM, SEQUENCE, small
from pipeline.reference.random_checkpoints import build_model
from pipeline.reference.sample_inputs import sample_inputs

WIDE = {"num_latents": 64, "d_latents": 128}


@pytest.mark.parametrize(
    ("model_class", "changes"),
    [
        (MASKED_LM, {"max_position_embeddings": 128}),
        (SEQUENCE, {"max_position_embeddings": 128}),
        (FOURIER, {"num_blocks": 3}),
        (FLOW, {"train_size": [32, 48]}),
    ],
)
def test_estimate_is_near_the_counted_operations(model_class: str, changes: dict[str, object], tmp_path) -> None:
    config = small(model_class, **WIDE, **changes)
    build_model(model_class, config, seed=0).save_pretrained(tmp_path)
    model = PerceiverIO.from_pretrained(str(tmp_path), fold=False)
    inputs = sample_inputs(config, model_class)
    with torch_threads(1), FlopCounterMode(display=False) as counter:
        engine_predict(model, inputs)
    assert 0.3 < estimate_unit_flops(model) / counter.get_total_flops() < 1.5


def test_cost_is_known_without_weights_and_by_part() -> None:
    with torch.device("meta"):
        model = PerceiverIO(small(FLOW), FLOW)
    encode, decode = estimate_unit_flops(model, decode=False), estimate_unit_flops(model, encode=False)
    assert encode > 0
    assert decode > encode, "every pixel is a query"
    assert estimate_unit_flops(model) == encode + decode

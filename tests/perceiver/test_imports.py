"""The engine is light: loading it loads neither Ray nor Arrow nor transformers' models."""

import json
import subprocess
import sys

FORBIDDEN = ("ray", "pyarrow", "pandas", "datasets", "av", "torchvision")


def modules_after(statement):
    """The names of all modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def test_importing_the_engine_loads_no_framework():
    loaded = modules_after("import pipeline.perceiver")
    assert "pipeline.perceiver.model" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in FORBIDDEN}


def test_importing_the_engine_loads_no_model_of_transformers():
    loaded = modules_after("import pipeline.perceiver")
    assert not [name for name in loaded if name.startswith("transformers.") and ".modeling_" in name]


def test_building_a_model_loads_no_model_of_transformers():
    statement = (
        "from transformers import PerceiverConfig; from pipeline.perceiver import PerceiverIO; "
        "PerceiverIO(PerceiverConfig(num_latents=2, d_latents=8), 'PerceiverForMaskedLM')"
    )
    loaded = modules_after(statement)
    assert not [name for name in loaded if name.startswith("transformers.models.perceiver.modeling_")]
    assert not {name for name in loaded if name.partition(".")[0] in FORBIDDEN}


def test_loading_a_checkpoint_loads_no_symbolic_algebra(checkpoint):
    """Which torch brings along for some of its own ways to make a tensor, and which takes half a second."""
    loaded = modules_after(
        f"from pipeline.perceiver import PerceiverIO; PerceiverIO.from_pretrained({str(checkpoint)!r})"
    )
    assert "torch" in loaded
    assert "sympy" not in loaded

"""Packed linear layers equal plain ones, and can be moved, cast, copied and pickled."""

import copy
import os
import pickle
import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from pipeline.perceiver import onednn_linear as module
from pipeline.perceiver.activations import Activation
from pipeline.perceiver.onednn_linear import Linear, linear

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.02}
needs_layout = pytest.mark.skipif(
    not module.uses_onednn(torch.empty(0)), reason="this CPU has no other layout than the plain one"
)


def pair(dtype: torch.dtype = torch.float32) -> tuple[Linear, Linear]:
    """Return a plain linear layer and a packed copy."""
    torch.manual_seed(0)
    plain = Linear(37, 53).to(dtype).requires_grad_(requires_grad=False)
    packed = copy.deepcopy(plain)
    packed.pack()
    return plain, packed


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(
        found.float(), wanted.float(), rtol=0, atol=TOLERANCE[wanted.dtype] * float(wanted.abs().max())
    )


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("activation", [None, F.gelu, F.relu, torch.tanh])
@pytest.mark.parametrize("added", [False, True])
def test_packed_linear_equals_plain_linear(dtype: torch.dtype, activation: Activation | None, added: bool) -> None:
    plain, packed = pair(dtype)
    x = torch.randn(3, 7, 2 * 37, dtype=dtype)[..., ::2]  # with strides
    plus = torch.randn(3, 7, 2 * 53, dtype=dtype)[..., ::2] if added else None
    assert close(packed(x, plus, activation), plain(x, plus, activation))
    wanted = F.linear(x, plain.weight, plain.bias)
    wanted = wanted if activation is None else activation(wanted)
    assert close(plain(x, plus, activation), wanted if plus is None else wanted + plus)


def test_empty_input_gives_empty_output() -> None:
    _, packed = pair()
    assert packed(torch.empty(0, 4, 37)).shape == (0, 4, 53)


@needs_layout
def test_packed_weight_is_stored_once() -> None:
    _, packed = pair()
    assert packed.weight.numel() == 0
    assert packed._packed is not None
    packed.unpack()
    assert packed._packed is None


@needs_layout
def test_moves_casts_and_copies_keep_the_weight() -> None:
    plain, packed = pair()
    x = torch.randn(5, 37)
    for copied in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(copied.weight, plain.weight)
        assert close(copied(x), plain(x))
    cast = packed.to(torch.bfloat16)
    if module.uses_onednn(torch.empty(0, dtype=torch.bfloat16)):  # not on CPUs without AVX-512
        assert cast._packed is not None
        assert cast._packed.dtype == torch.bfloat16
    else:
        assert cast._packed is None
    assert close(cast(x.bfloat16()), plain(x).bfloat16())
    assert packed.double()._packed is None  # no layout for it
    assert torch.equal(packed.weight, plain.weight.bfloat16().double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_product_with_a_tensor_that_is_not_a_weight(dtype: torch.dtype) -> None:
    x, y = torch.randn(2 * 19, 11, dtype=dtype)[::2], torch.randn(11, 23, dtype=dtype).T
    found = linear(x, y)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), x.double() @ y.T.double(), atol=1e-12 if dtype == torch.float64 else 0.1)


def test_torch_without_onednn_operators_uses_plain_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_onednn_dtypes", frozenset)
    plain, packed = pair()
    assert packed.weight.shape == plain.weight.shape
    x = torch.randn(5, 37)
    assert torch.equal(packed(x), F.linear(x, plain.weight, plain.bias))
    assert torch.equal(linear(x, plain.weight), F.linear(x, plain.weight))


def test_narrow_map_stays_in_float32_whatever_the_model_is_cast_to() -> None:
    torch.manual_seed(0)
    narrow = module.Float32Linear(64, 2).requires_grad_(requires_grad=False)
    weight = narrow.weight.clone()
    narrow = narrow.to(torch.bfloat16)
    narrow.pack()
    x, plus = torch.randn(9, 64).bfloat16(), torch.randn(9, 2).bfloat16()
    found = narrow(x, plus)
    assert found.dtype == torch.bfloat16
    wanted = F.linear(x.double(), weight.double(), narrow.bias.double()) + plus.double()
    assert torch.equal(found, wanted.bfloat16())
    narrow.unpack()
    assert torch.equal(narrow.weight, weight)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")
def test_memory_of_freed_tensors_is_reused() -> None:
    script = """
import resource
import torch
from pipeline.perceiver.cpu_allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in range(2, 12):
        torch.ones(size << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
fresh = faults()
keep_freed_memory()
faults()  # the heap grows once to what the largest takes
print(fresh, min(faults() for _ in range(5)))  # the system may take pages back in between
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    fresh, kept = map(int, run.stdout.split())
    # 2 to 11 MB of 256 pages each, 65 MB in all: taken anew each time, or none of them.
    assert fresh > 60 * 256
    assert kept < 256

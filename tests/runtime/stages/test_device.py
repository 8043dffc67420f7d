"""Devices that torch cannot use."""

import re

import pytest
import torch

from pipeline.runtime.errors import DeviceNotUsable
from pipeline.runtime.stages.device import require_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU that works")
def test_gpu_that_torch_cannot_use_is_named_with_the_cause() -> None:
    cause = "Torch not compiled with CUDA enabled|Found no NVIDIA driver on your system|No CUDA GPUs are available"
    with pytest.raises(DeviceNotUsable, match=rf"^device \(cuda\) cannot be used on .*: ({cause}).*; give cpu, or"):
        require_device("cuda")


def test_cause_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available\nCompile with `TORCH_USE_CUDA_DSA`")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(DeviceNotUsable) as refused:
        require_device("cuda:1")
    assert re.search(r"device \(cuda:1\) .*: no kernel image is available; give cpu", str(refused.value))
    require_device("cpu")


def test_device_without_free_memory_is_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(torch.OutOfMemoryError):
        require_device("cuda")

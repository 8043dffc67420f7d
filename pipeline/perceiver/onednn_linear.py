"""Products with weights, and the CPU's fastest way to them.

torch's own `F.linear` asks MKL for float32, which on CPUs that are not Intel's reaches less than half of their rate;
oneDNN, which torch has on board for x86, reaches all of it, most of all with weights that it has laid out for itself.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]

# Activations that oneDNN applies before the product leaves the registers, and its name for the kind of each.
_FUSED: dict[Activation, tuple[str, str]] = {F.gelu: ("gelu", "none"), F.relu: ("relu", "")}


_GLIBC_MOST = 32 << 20  # DEFAULT_MMAP_THRESHOLD_MAX
_HEADER = 8 << 10  # more than malloc adds for itself and to align


def is_fast(x: Tensor) -> bool:
    """Whether products with `x` go to oneDNN: on x86, in the dtypes that this CPU has instructions for."""
    return x.device.type == "cpu" and x.dtype in _fast_dtypes()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weightᵀ + bias: [P, C] and [O, C] to [P, O], for a `weight` that is no weight but changes with every unit.

    Both are made contiguous: with strides oneDNN falls back to a reference kernel, several hundred times slower.
    """
    if is_fast(x):
        out: Tensor = _ops()._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """nn.Linear, whose weight oneDNN may lay out once for all calls (`pack`), with what surrounds it in one kernel."""

    _packed: Tensor | None = None

    def pack(self) -> None:
        """Lay the weight out for this CPU; it is held in that form only. Nothing where there is no such form."""
        if self._packed is None and is_fast(self.weight) and self.weight.numel():
            self._packed = _ops()._reorder_linear_weight(self.weight.detach().contiguous())
            self.weight = nn.Parameter(self.weight.new_empty(0, self.in_features), requires_grad=False)

    def unpack(self) -> None:
        """The weight as it was before `pack`."""
        if self._packed is not None:
            self.weight = nn.Parameter(self._packed.to_dense(), requires_grad=False)
            self._packed = None

    def forward(self, input: Tensor, plus: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """activation(input weightᵀ + bias) + plus: input [..., in] to [..., out]."""
        if self._packed is None:
            return _then(super().forward(input), activation, plus)
        if not input.numel():
            return input.new_empty(*input.shape[:-1], self.out_features)
        x = input.contiguous()
        if plus is not None and activation is None:
            out: Tensor = _ops()._linear_pointwise.binary(x, plus.contiguous(), self._packed, self.bias, "add")
            return out
        fused = None if activation is None else _FUSED.get(activation)
        kind, algorithm = fused or ("none", "")
        out = _ops()._linear_pointwise(x, self._packed, self.bias, kind, [], algorithm)
        return _then(out, None if fused else activation, plus)

    def _apply(self, fn: Any, recurse: bool = True) -> Linear:
        """Moves and casts go by the plain weight, which is laid out anew where it arrives on this CPU."""
        packed = self._packed is not None
        self.unpack()
        super()._apply(fn, recurse)
        if packed:
            self.pack()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy holds the plain weight: the other form can neither be copied nor pickled."""
        if self._packed is None:
            return self.__dict__
        weight = nn.Parameter(self._packed.to_dense(), requires_grad=False)
        return {**self.__dict__, "_packed": None, "_parameters": {**self._parameters, "weight": weight}}


class Float32Linear(Linear):
    """A map to so few outputs that it costs nothing to compute it in float32, whatever the model's dtype: what is left
    of large terms that cancel each other is not lost in rounding them. Gives what it is given."""

    def forward(self, input: Tensor, plus: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """As `Linear`; `plus` may have any dtype."""
        return super().forward(input.float(), None if plus is None else plus.float(), activation).to(input.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Float32Linear:
        """Moved, never cast."""
        super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)
        return self


def keep_freed_memory() -> None:
    """Let this process keep the memory of tensors of up to 32 MB that it frees, for the next ones.

    glibc takes large ones from the system and gives them back, and what is free beyond some size as well: then every
    4 kB that are used again cost a page fault, a tenth of a model's time in all. "Large" is, for a process, what is
    larger than the largest such block that it ever freed, of 32 MB at the most, and "beyond some size" twice that: so
    one is freed here. Elsewhere it does nothing.
    """
    torch.empty(_GLIBC_MOST - _HEADER, dtype=torch.uint8)


def _then(x: Tensor, activation: Activation | None, plus: Tensor | None) -> Tensor:
    x = x if activation is None else activation(x)
    return x if plus is None else x + plus


def _ops() -> Any:
    return torch.ops.mkldnn


@cache
def _fast_dtypes() -> frozenset[torch.dtype]:
    """The operators are torch's own, for compiled models: a torch without them has the plain way left."""
    there = all(hasattr(_ops(), name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    if not there or not torch.backends.mkldnn.is_available() or platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    return frozenset([torch.float32, *([torch.bfloat16] if _ops()._is_mkldnn_bf16_supported() else [])])

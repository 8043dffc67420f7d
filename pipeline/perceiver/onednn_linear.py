"""Matrix products through oneDNN on x86 CPUs.

`F.linear` uses MKL in float32, which reaches less than half of the matrix rate of CPUs that are not Intel's. oneDNN,
which torch includes for x86, reaches all of it, especially with weights in its own blocked layout ("packed").
"""

import platform
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.activations import Activation

_OPS: Any = torch.ops.mkldnn
# Activations that oneDNN fuses with the product, with its name and algorithm for each.
_FUSED: dict[Activation, tuple[str, str]] = {F.gelu: ("gelu", "none"), F.relu: ("relu", "")}


def uses_onednn(x: Tensor) -> bool:
    """Return whether products with `x` go to oneDNN: on x86, in the dtypes that this CPU has instructions for."""
    return x.device.type == "cpu" and x.dtype in _onednn_dtypes()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weightᵀ + bias, [P, O], for x [P, C] and a weight [O, C] that changes with every call.

    Both are made contiguous: oneDNN's kernel for strided matrices is several hundred times slower.
    """
    if uses_onednn(x):
        out: Tensor = _OPS._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """nn.Linear with an optional packed weight, and with an activation and an addition in the same kernel."""

    _packed: Tensor | None = None

    def pack(self) -> None:
        """Replace the weight by its packed form, if this CPU and dtype have one."""
        if self._packed is None and uses_onednn(self.weight) and self.weight.numel():
            self._packed = _OPS._reorder_linear_weight(self.weight.detach().contiguous())
            self.weight = nn.Parameter(self.weight.new_empty(0, self.in_features), requires_grad=False)

    def unpack(self) -> None:
        """Replace the packed weight by the plain one."""
        if self._packed is not None:
            self.weight = nn.Parameter(self._packed.to_dense(), requires_grad=False)
            self._packed = None

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """Return activation(input weightᵀ + bias) + residual, [..., out], for input [..., in]."""
        if self._packed is None:
            return _activate_and_add(super().forward(input), activation, residual)
        if not input.numel():
            return input.new_empty(*input.shape[:-1], self.out_features)
        x = input.contiguous()
        if residual is not None and activation is None:
            out: Tensor = _OPS._linear_pointwise.binary(x, residual.contiguous(), self._packed, self.bias, "add")
            return out
        fused = None if activation is None else _FUSED.get(activation)
        kind, algorithm = fused or ("none", "")
        out = _OPS._linear_pointwise(x, self._packed, self.bias, kind, [], algorithm)
        return _activate_and_add(out, None if fused else activation, residual)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or cast the plain weight, then pack it again if the new device and dtype allow it."""
        packed = self._packed is not None
        self.unpack()
        super()._apply(fn, recurse)
        if packed:
            self.pack()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the plain weight: a packed tensor can be neither copied nor pickled."""
        if self._packed is None:
            return self.__dict__
        weight = nn.Parameter(self._packed.to_dense(), requires_grad=False)
        return {**self.__dict__, "_packed": None, "_parameters": {**self._parameters, "weight": weight}}


class Float32Linear(Linear):
    """Linear map that computes in float32 whatever the model's dtype, and returns the dtype of its input.

    For maps to few outputs, which cost little: large terms that cancel are added before they are rounded.
    """

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """Return what `Linear` returns; `residual` may have any dtype."""
        out = super().forward(input.float(), None if residual is None else residual.float(), activation)
        return out.to(input.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the weights, but do not cast them."""
        super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)
        return self


def _activate_and_add(x: Tensor, activation: Activation | None, residual: Tensor | None) -> Tensor:
    x = x if activation is None else activation(x)
    return x if residual is None else x + residual


@cache
def _onednn_dtypes() -> frozenset[torch.dtype]:
    """Return the dtypes that go to oneDNN; none if torch lacks its internal operators, which no release guarantees."""
    has_ops = all(hasattr(_OPS, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    if not has_ops or not torch.backends.mkldnn.is_available() or platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    return frozenset([torch.float32, *([torch.bfloat16] if _OPS._is_mkldnn_bf16_supported() else [])])

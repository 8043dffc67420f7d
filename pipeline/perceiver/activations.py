"""Activation functions that a checkpoint's `hidden_act` may name, as transformers defines them."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

_gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Activation] = {
    **{name: getattr(F, name) for name in ("gelu", "hardswish", "leaky_relu", "mish", "relu", "relu6", "silu")},
    **dict.fromkeys(("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"), _gelu_tanh),
    "gelu_10": lambda x: F.gelu(x).clamp(-10, 10),
    "gelu_python": F.gelu,
    "laplace": lambda x: 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "linear": lambda x: x,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu2": lambda x: torch.square(F.relu(x)),
    "sigmoid": torch.sigmoid,
    "sqrtsoftplus": lambda x: torch.sqrt(F.softplus(x)),
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Activation:
    """Return the activation function called `name`; raise ValueError if it is not supported."""
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act {name!r} is not one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]

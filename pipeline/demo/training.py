"""Training of a small model: initial weights, schedule of the learning rate, average of the weights."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.perceiver import modeling_perceiver

Loss = Callable[[Any, int], Tensor]
"""Function of a model and the number of the step that returns the loss of a new random batch."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length and speed of a training.

    Attributes:
        steps: number of batches.
        rate: greatest learning rate, after a linear warm-up; it falls to 0 along a cosine.
        warm_up: steps of the warm-up.
        decay: weight decay of matrices, as in AdamW.
        average: the saved weights are a running average of about this many steps.
    """

    steps: int
    rate: float
    warm_up: int = 100
    decay: float = 0.01
    average: int = 100


@torch.no_grad()
def init_weights(model: nn.Module, seed: int) -> None:
    """Draw initial weights in place: N(0, 1 / fan-in) for matrices, zero for biases, one for the scales of norms.

    transformers' initialization, N(0, 0.02²) for every matrix, suits layers of about 1,000 channels. In a model of 48
    channels it leaves so small activations that training starts many times slower.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.normal_(0.0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, modeling_perceiver.PerceiverEmbeddings):
            module.latents.normal_(0.0, 1.0, generator=generator)
        elif isinstance(module, modeling_perceiver.PerceiverTrainablePositionEncoding):
            module.position_embeddings.normal_(0.0, 1.0, generator=generator)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, 1.0, generator=generator)


def train(model: Any, loss: Loss, schedule: Schedule, report: Callable[[str], None] = print) -> Any:
    """Train `model` with AdamW and return it with averaged weights, in evaluation mode.

    report: receives a line about the loss, 20 times.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": schedule.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))
    averaged = [parameter.detach().clone() for parameter in model.parameters()]
    started, every, recent = time.monotonic(), max(1, schedule.steps // 20), 0.0
    model.train()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * _relative_rate(step, schedule)
        value = loss(model, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _update_average(averaged, model, 1 / min(step + 1, schedule.average))
        recent += value.item()
        if (step + 1) % every == 0:
            seconds = time.monotonic() - started
            report(f"step {step + 1} of {schedule.steps}, {seconds:.0f} s: loss {recent / every:.4f}")
            recent = 0.0
    with torch.no_grad():
        for parameter, mean in zip(model.parameters(), averaged, strict=True):
            parameter.copy_(mean)
    return model.eval()


@torch.no_grad()
def _update_average(averaged: list[Tensor], model: nn.Module, share: float) -> None:
    torch._foreach_lerp_(averaged, [parameter.detach() for parameter in model.parameters()], share)


def _relative_rate(step: int, schedule: Schedule) -> float:
    if step < schedule.warm_up:
        return (step + 1) / schedule.warm_up
    done = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done))

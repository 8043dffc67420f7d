"""What it takes to make a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PerceiverConfig

from pipeline.demo.training import Loss, Schedule
from pipeline.demo.trial import Trial

SEED = 0


def _as_drawn(model: Any) -> None:
    """Leave the initial weights as they are."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The making of one checkpoint.

    Attributes:
        model_class: class of transformers.
        config: returns its configuration.
        start: changes the initial weights in place.
        half: the weights are saved in float16, as those of large models, so that all checkpoints are below 5 MB.
        loss: returns the loss of random batches, from a seed.
        schedule: length and speed of the training.
        trial: what it must do on held-out data.
        data: what it is trained on, and what is held out, for the model card.
        licence: the licence of the data.
    """

    model_class: str
    config: Callable[[], PerceiverConfig]
    loss: Callable[[int], Loss]
    schedule: Schedule
    trial: Trial
    data: str
    licence: str
    start: Callable[[Any], None] = _as_drawn
    half: bool = False

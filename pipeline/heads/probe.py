"""A linear probe: labels from pooled latents, with weights that were fitted to somebody's own labels."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.checkpoints import CheckpointError
from pipeline.heads.head import Tensor
from pipeline.heads.pooling import Pooling
from pipeline.storage import AccessError, Missing, Store

WEIGHTS, DESCRIPTION = "probe.safetensors", "probe.json"
FORMAT = 1  # of probe.json


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Logits are `weight @ pooled latents + bias`, calibrated so that their softmax is the probability of each label.

    Attributes:
        labels: K names.
        pooling: how the latents of a unit become F numbers.
        weight: float32 [K, F].
        bias: float32 [K].
        checkpoint: digest of the checkpoint whose latents it was fitted to.
        facts: how it was fitted and how good it is, for people.
    """

    labels: tuple[str, ...]
    pooling: Pooling
    weight: np.ndarray
    bias: np.ndarray
    checkpoint: str
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that changes a prediction."""
        content = json.dumps([self.labels, self.pooling, self.checkpoint]).encode()
        return hashlib.sha256(content + self.weight.tobytes() + self.bias.tobytes()).hexdigest()

    def logits(self, pooled: Tensor) -> Tensor:
        """Return logits float32 [B, K] of pooled latents float32 [B, F]."""
        import torch

        weight, bias = (torch.from_numpy(each).to(pooled.device) for each in (self.weight, self.bias))
        return torch.nn.functional.linear(pooled, weight, bias)

    def save(self, uri: str) -> None:
        """Write the two files to a folder, local or a URI. AccessError if it has files of these names."""
        self.check_new(uri)
        folder = Store(uri)
        described = {
            "format": FORMAT,
            "labels": self.labels,
            "pooling": self.pooling,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            **self.facts,
        }
        files = {
            WEIGHTS: save({"weight": self.weight, "bias": self.bias}),
            DESCRIPTION: json.dumps(described, indent=1, ensure_ascii=False).encode(),
        }
        for key, data in files.items():
            if not folder.put_if_absent(key, data):  # another process was faster
                raise _exists(folder, key)
        folder.remove_empty_folders()

    @staticmethod
    def check_new(uri: str) -> None:
        """Raise AccessError if a folder has a probe already."""
        folder = Store(uri)
        for key in (WEIGHTS, DESCRIPTION):
            with suppress(Missing):
                folder.size(key)
                raise _exists(folder, key)

    @classmethod
    def load(cls, uri: str) -> Self:
        """Read a folder that `save` wrote. CheckpointError if it is none, or a file of it was changed."""
        folder = Store(uri)
        try:
            described, tensors = json.loads(folder.read(DESCRIPTION)), load(folder.read(WEIGHTS))
        except Missing as error:
            raise CheckpointError(f"{uri} is not a probe: {error}") from None
        except (ValueError, RecursionError, SafetensorError) as error:
            raise CheckpointError(f"the probe {uri} is damaged: {error}") from None
        try:
            if described["format"] != FORMAT:
                raise CheckpointError(f"the probe {uri} is of another version of perceiver-pipeline")
            found = cls(
                labels=tuple(described.pop("labels")),
                pooling=described.pop("pooling"),
                weight=tensors["weight"],
                bias=tensors["bias"],
                checkpoint=described.pop("checkpoint"),
                facts=described,
            )
            if problem := found._problem() or (found.digest != described.pop("digest") and "a file of it was changed"):
                raise CheckpointError(f"the probe {uri} is damaged: {problem}")
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"the probe {uri} is damaged: {type(error).__name__} {error}") from None
        return found

    def check_checkpoint(self, digest: str) -> None:
        """Raise CheckpointError unless the probe was fitted to latents of the checkpoint with this digest."""
        if self.checkpoint != digest:
            raise CheckpointError(
                f"the probe was fitted to latents of the checkpoint with the digest {self.checkpoint}, this one has "
                f"{digest}: use that checkpoint, or fit a probe to latents of this one"
            )

    def _problem(self) -> str | None:
        """Return what is wrong, None for a probe that can predict."""
        if not _are_names(self.labels) or self.pooling not in get_args(Pooling):
            return "its labels must be different texts, at least two, and its pooling a known one"
        shapes, kinds = (self.weight.shape, self.bias.shape), {self.weight.dtype, self.bias.dtype}
        if len(self.weight.shape) != 2 or shapes != ((len(self.labels), self.weight.shape[1]), (len(self.labels),)):
            return f"weight and bias have the shapes {shapes[0]} and {shapes[1]} for {len(self.labels)} labels"
        if kinds != {np.dtype(np.float32)} or not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            return "weight and bias must be finite float32"
        return None


def _exists(folder: Store, key: str) -> AccessError:
    return AccessError(f"{folder.uri_of(key)} exists and is not overwritten: name a new folder")


def _are_names(labels: Sequence[Any]) -> bool:
    return len(labels) > 1 and all(isinstance(each, str) for each in labels) and len(set(labels)) == len(labels)

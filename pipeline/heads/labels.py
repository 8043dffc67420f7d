"""From logits to labelled scores: the columns that every classification has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.heads.head import JSON, ColumnType, HeadOptions

if TYPE_CHECKING:  # load tasks hold labels and never score
    import torch

_UNNAMED = 2  # labels of a config that names none: transformers' default
_LABEL: dict[str, ColumnType] = {"label_id": "int32", "label": "string", "score": "float32"}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a checkpoint, how a logit becomes a score, and which columns are kept.

    scoring: "softmax", "sigmoid" or "none", chosen as `transformers.pipeline` chooses: a regression's score is its raw
    value; with several labels that hold at once, or a single label, a score is the label's own sigmoid; else softmax.
    """

    names: tuple[str, ...]
    scoring: str
    top_k: int
    logits: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any], options: HeadOptions) -> Labels:
        """Labels of a config.json: `id2label`, and LABEL_i for what it does not name. ValueError says what is wrong."""
        names = _names(config)
        problem = config.get("problem_type")
        several = problem == "multi_label_classification" or len(names) == 1
        scoring = "none" if problem == "regression" else "sigmoid" if several else "softmax"
        return cls(names=names, scoring=scoring, top_k=min(options.top_k, len(names)), logits=options.logits)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """label_id, label and score of the best label, topk of the best ones, and the logits where they are kept."""
        kept: dict[str, ColumnType] = {"logits": ["float32"]} if self.logits else {}
        return {**_LABEL, "topk": [dict(_LABEL)], **kept}

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """What of it the weights and config.json do not say."""
        return {"top_k": self.top_k, "logits": self.logits}

    def rows(self, logits: torch.Tensor) -> dict[str, list[Any] | np.ndarray]:
        """The columns of logits [B, labels], best label first, scored in float32. Of equal logits the lower id wins."""
        if logits.shape[1] != len(self.names):
            raise ValueError(f"the model gave {logits.shape[1]} logits for {len(self.names)} labels of config.json")
        values = logits.float()
        order = values.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]
        scores = self._scores(values).gather(1, order).cpu().numpy()
        ids = order.cpu().numpy().astype(np.int32)
        labels = np.array(self.names, dtype=object)[ids].tolist()
        rows: dict[str, list[Any] | np.ndarray] = {
            "label_id": ids[:, 0],
            "label": [best[0] for best in labels],
            "score": scores[:, 0],
            "topk": [_topk(*row) for row in zip(ids.tolist(), labels, scores.tolist(), strict=True)],
        }
        if self.logits:
            rows["logits"] = values.cpu().numpy()
        return rows

    def _scores(self, values: torch.Tensor) -> torch.Tensor:
        """Scores [B, labels] of float32 logits."""
        if self.scoring == "softmax":
            return values.softmax(dim=1)
        return values.sigmoid() if self.scoring == "sigmoid" else values


def _topk(ids: list[int], labels: list[str], scores: list[float]) -> list[dict[str, Any]]:
    """One unit's list of structs."""
    columns = zip(ids, labels, scores, strict=True)
    return [{"label_id": label_id, "label": label, "score": score} for label_id, label, score in columns]


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """One name a logit. As in transformers, an `id2label` of another length than `num_labels` names other labels."""
    id2label = config.get("id2label")
    if id2label is None:
        id2label = {}
    elif not isinstance(id2label, Mapping) or not id2label or not all(str(key).isdecimal() for key in id2label):
        raise ValueError(f"id2label ({str(id2label)[:80]}) must map the numbers 0, 1, … to names")
    said = config.get("num_labels")
    count = (len(id2label) or _UNNAMED) if said is None else _count(said)
    fitting = id2label if len(id2label) == count else {}
    named = {int(key): name for key, name in fitting.items() if name is not None}
    return tuple(str(named.get(label, f"LABEL_{label}")) for label in range(count))


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"num_labels ({value!r}) must be a number of at least 1")

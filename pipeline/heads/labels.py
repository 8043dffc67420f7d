"""Labels and scores from logits: the output columns that all classification tasks share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from pipeline.heads.config_values import positive_int
from pipeline.heads.head import JSON, ColumnType, HeadOptions, Tensor

_DEFAULT_COUNT = 2  # transformers' default for a config that gives neither labels nor their number
_LABEL: dict[str, ColumnType] = {"label_id": "int32", "label": "string", "score": "float32"}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a checkpoint, and how to score and output them.

    Attributes:
        names: one name per logit.
        scoring: as `transformers.pipeline` chooses: "none" for a regression, whose score is the raw value; "sigmoid" of
            each label for a single label and for labels that can hold at once; else "softmax".
        top_k: number of best labels in the output.
        logits: whether the raw scores are output too.
    """

    names: tuple[str, ...]
    scoring: Literal["softmax", "sigmoid", "none"]
    top_k: int
    logits: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any], options: HeadOptions) -> Self:
        """Read a config.json. Labels without a name are called LABEL_i. Raise ValueError for invalid values."""
        names = _names(config)
        problem = config.get("problem_type")
        scoring: Literal["softmax", "sigmoid", "none"] = "softmax"
        if problem == "regression":
            scoring = "none"
        elif problem == "multi_label_classification" or len(names) == 1:
            scoring = "sigmoid"
        return cls(names=names, scoring=scoring, top_k=min(options.top_k, len(names)), logits=options.logits)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """label_id, label and score of the best label; topk: the same of the best `top_k` labels; logits if kept."""
        kept: dict[str, ColumnType] = {"logits": ["float32"]} if self.logits else {}
        return {**_LABEL, "topk": [dict(_LABEL)], **kept}

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options; names and scoring follow from config.json, which the checkpoint's digest covers."""
        return {"top_k": self.top_k, "logits": self.logits}

    def rows(self, logits: Tensor) -> dict[str, list[Any] | np.ndarray]:
        """Return the columns of logits [B, labels], scored in float32, best label first; of equal logits the lower id.

        Raise ValueError if the number of logits differs from the number of labels.
        """
        if logits.shape[1] != len(self.names):
            raise ValueError(f"the model gave {logits.shape[1]} logits for {len(self.names)} labels of config.json")
        values = logits.float()
        order = values.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]
        scored = {"softmax": values.softmax(dim=1), "sigmoid": values.sigmoid(), "none": values}[self.scoring]
        scores = scored.gather(1, order).cpu().numpy()
        ids = order.cpu().numpy().astype(np.int32)
        labels = np.array(self.names, dtype=object)[ids].tolist()
        rows: dict[str, list[Any] | np.ndarray] = {
            "label_id": ids[:, 0],
            "label": [best[0] for best in labels],
            "score": scores[:, 0],
            "topk": [
                [dict(zip(_LABEL, each, strict=True)) for each in zip(*unit, strict=True)]
                for unit in zip(ids.tolist(), labels, scores.tolist(), strict=True)
            ],
        }
        if self.logits:
            rows["logits"] = values.cpu().numpy()
        return rows


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one name per logit. As in transformers, `num_labels` overrides an `id2label` of another length."""
    id2label = config.get("id2label")
    if id2label is None:
        id2label = {}
    elif not isinstance(id2label, Mapping) or not id2label or not all(str(key).isdecimal() for key in id2label):
        raise ValueError(f"id2label ({str(id2label)[:80]}) must map the numbers 0, 1, … to names")
    declared = config.get("num_labels")
    count = (len(id2label) or _DEFAULT_COUNT) if declared is None else positive_int("num_labels", declared)
    matching = id2label if len(id2label) == count else {}
    named = {int(key): name for key, name in matching.items() if name is not None}
    return tuple(str(named.get(label, f"LABEL_{label}")) for label in range(count))

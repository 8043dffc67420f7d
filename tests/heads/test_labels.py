"""Labels and scores from logits, against transformers' pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PerceiverConfig

from pipeline.heads import HeadOptions
from pipeline.heads.labels import Labels

ANIMALS = {"id2label": {"0": "cat", "1": "dog", "2": "emu"}}


def labels(config: dict[str, Any] | None = None, **options: Any) -> Labels:
    return Labels.from_config(ANIMALS if config is None else config, HeadOptions(**options))


def test_row_has_the_best_label_and_the_next_best() -> None:
    rows = labels(top_k=2).rows(torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0]]))
    softmax = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0]]).softmax(dim=1).tolist()
    assert rows["label_id"].tolist() == [1, 0]
    assert rows["label_id"].dtype == np.int32
    assert rows["label"] == ["dog", "cat"]
    assert rows["score"].dtype == np.float32
    assert rows["score"].tolist() == [softmax[0][1], softmax[1][0]]
    assert rows["topk"][0] == [
        {"label_id": 1, "label": "dog", "score": softmax[0][1]},
        {"label_id": 2, "label": "emu", "score": softmax[0][2]},
    ]
    assert "logits" not in rows


def test_columns_are_those_of_the_rows() -> None:
    for logits in (False, True):
        head = labels(logits=logits)
        assert list(head.columns) == list(head.rows(torch.zeros(2, 3)))
    struct = {"label_id": "int32", "label": "string", "score": "float32"}
    assert labels().columns == {**struct, "topk": [struct]}
    assert labels(logits=True).columns == {**struct, "topk": [struct], "logits": ["float32"]}


def test_logits_are_kept_in_the_order_of_the_labels() -> None:
    rows = labels(logits=True).rows(torch.tensor([[0.5, 2.0, 1.0]], dtype=torch.bfloat16))
    assert rows["logits"].dtype == np.float32
    assert rows["logits"].tolist() == [[0.5, 2.0, 1.0]]


def test_top_k_above_the_number_of_labels_keeps_all() -> None:
    assert len(labels(top_k=50).rows(torch.zeros(1, 3))["topk"][0]) == 3
    assert (
        labels(top_k=50).fingerprint_options == labels(top_k=3).fingerprint_options
    )  # the same predictions, so the same run


def test_equal_logits_are_ordered_by_id() -> None:
    names = {"id2label": {str(label): f"label {label}" for label in range(2000)}}
    rows = labels(names, top_k=2000).rows(torch.zeros(3, 2000))
    assert [each["label_id"] for each in rows["topk"][2]] == list(range(2000))


def test_labels_with_equal_scores_keep_the_order_of_their_logits() -> None:
    rows = labels().rows(torch.tensor([[-200.0, 100.0, -150.0]]))  # two of the softmax's values are 0
    assert [each["label"] for each in rows["topk"][0]] == ["dog", "emu", "cat"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    names = {"num_labels": 1000}
    rows = labels(names, top_k=1000).rows(logits)
    best = logits.float().softmax(dim=1).max(dim=1).values.tolist()
    assert [row[0]["score"] for row in rows["topk"]] == best
    for row in rows["topk"]:
        assert sum(each["score"] for each in row) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "scores"),
    [
        ({"num_labels": 3}, "softmax"),
        ({"num_labels": 3, "problem_type": "single_label_classification"}, "softmax"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "sigmoid"),
        ({"num_labels": 3, "problem_type": "regression"}, "none"),
        ({"num_labels": 1}, "sigmoid"),
        ({"num_labels": 1, "problem_type": "regression"}, "none"),
    ],
)
def test_scoring_follows_transformers_pipeline(config: dict[str, Any], scores: str) -> None:
    logits = torch.linspace(2, -1, config["num_labels"])[None]
    expected = {"softmax": logits.softmax(dim=1), "sigmoid": logits.sigmoid(), "none": logits}[scores]
    rows = labels(config).rows(logits)
    assert [each["score"] for each in rows["topk"][0]] == expected[0].tolist()
    assert rows["score"].tolist() == expected[0, :1].tolist()


@pytest.mark.parametrize("config", [{}, {"num_labels": 1}, {"num_labels": 7}, ANIMALS, {"num_labels": 9, **ANIMALS}])
def test_label_names_equal_those_of_transformers(config: dict[str, Any]) -> None:
    theirs = PerceiverConfig(**config).id2label
    assert dict(enumerate(labels(config).names)) == theirs


def test_label_without_a_name_is_named_by_its_number() -> None:
    assert labels({"id2label": {"0": "cat", "2": None, "7": "out of range"}}).names == ("cat", "LABEL_1", "LABEL_2")
    assert labels({"id2label": {"0": 7, "1": "seven"}}).names == ("7", "seven")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id2label": {}}, "id2label"),
        ({"id2label": ["cat"]}, "id2label"),
        ({"id2label": {"cat": 0}}, "id2label .* must map the numbers"),
        ({"num_labels": 0}, r"num_labels \(0\)"),
        ({"num_labels": "3"}, r"num_labels \('3'\)"),
    ],
)
def test_invalid_config_is_rejected_with_its_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels(config)


def test_wrong_number_of_logits_is_rejected() -> None:
    with pytest.raises(ValueError, match="the model gave 4 logits for 3 labels"):
        labels().rows(torch.zeros(1, 4))


def test_top_k_below_one_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"top_k \(0\) must be at least 1"):
        HeadOptions(top_k=0)

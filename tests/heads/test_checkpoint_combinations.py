"""Any files next to the weights: inputs equal those of transformers' auto classes, or the files are refused by name."""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import event, example, given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

from pipeline.heads import Head, HeadOptions, head_for
from pipeline.perceiver import CheckpointError
from pipeline.reference.published_configs import CONV, FOURIER, LEARNED, SEQUENCE, small
from tests.property_settings import EXAMPLES, many

IMAGE = skimage.data.astronaut()[40:400]
TEXTS = ["An emu [MASK] runs.", " [SEP] and [BOS]  white  space [PAD] ", "é" * 90, "a [NEW] <b>", "[UNK] <mask>", ""]

TOKENS = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
TOKENS |= {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
IDS = {token: number for number, token in enumerate(TOKENS.values())}


def token(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, **FLAGS, **flags}


def some(values: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw some of the items."""
    return st.sets(st.sampled_from(sorted(values))).map(lambda names: {name: values[name] for name in sorted(names)})


def _named(**mark: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw special tokens by name. mark: what tells an object in tokenizer_config.json from other objects."""
    objects = {name: token(text) | mark for name, text in TOKENS.items()}
    odd = [{"mask_token": "<mask>"}, {"cls_token": token("[CLS]", lstrip=True) | mark}, {"unk_token": "[UNK]"}]
    odd += [{"pad_token": None}, {"additional_special_tokens": ["[NEW]"]}, {"extra_special_tokens": []}]
    return some(TOKENS) | some(objects) | st.sampled_from(odd)


_DECODER = {str(number): token(text, special=True) for text, number in IDS.items()}
_TOKENIZER = st.fixed_dictionaries(
    {},
    optional={
        "model_max_length": st.sampled_from([33, 64, 10**30]),
        "truncation_side": st.sampled_from(["left", "right"]),
        "padding_side": st.just("left"),
        "tokenizer_class": st.sampled_from(["PerceiverTokenizer", "PerceiverTokenizer", "ByT5Tokenizer"]),
        "added_tokens_decoder": some(_DECODER) | st.just({"262": token("[NEW]", special=True)}),
        "clean_up_tokenization_spaces": st.booleans(),
        "backend": st.just("custom"),
        "split_special_tokens": st.booleans(),
    },
)
_ADDED = some(IDS) | st.sampled_from([{"[NEW]": 262}, {"[PAD]": 3}])
TEXT_FILES = st.fixed_dictionaries(
    {},
    optional={
        "tokenizer_config.json": st.builds(operator.or_, _TOKENIZER, _named(__type="AddedToken") | st.just({})),
        "special_tokens_map.json": _named(),
        "added_tokens.json": _ADDED,
        "processor_config.json": st.just({"processor_class": "PerceiverProcessor"}),
    },
)

_IMAGE = st.fixed_dictionaries(
    {},
    optional={
        "image_processor_type": st.sampled_from(["PerceiverImageProcessor", "PerceiverImageProcessorFast"]),
        "feature_extractor_type": st.just("PerceiverFeatureExtractor"),
        "processor_class": st.just("PerceiverProcessor"),
        "size": st.sampled_from([20, [20, 24], {"height": 20, "width": 24}, {"shortest_edge": 20}]),
        "crop_size": st.sampled_from([24, {"height": 30, "width": 28}, {"height": 10, "width": 400}]),
        "do_resize": st.booleans(),
        "do_center_crop": st.booleans() | st.none(),
        "do_rescale": st.booleans(),
        "do_normalize": st.booleans(),
        "default_to_square": st.booleans(),
        "resample": st.integers(0, 6),
        "rescale_factor": st.sampled_from([1 / 127.5, 1, 0]),
        "image_mean": st.sampled_from([[0.5, 0.4, 0.3], 0.5, [0.5]]),
        "image_std": st.sampled_from([[0.2, 0.3, 0.4], 0.5]),
        "image_seq_length": st.just(64),
    },
)
IMAGE_FILES = st.fixed_dictionaries(
    {},
    optional={
        "preprocessor_config.json": _IMAGE,
        "processor_config.json": st.builds(
            lambda nested, name: {**({} if nested is None else {"image_processor": nested or None}), **name},
            st.none() | _IMAGE | st.just({}),
            st.sampled_from([{}, {"processor_class": "PerceiverProcessor"}]),
        ),
    },
)
_NAMES = {"0": "tabby", "1": "beagle", "2": "emu"}
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "id2label": st.sampled_from([_NAMES, {"0": "tabby", "1": "beagle"}, {"2": "emu", "0": "tabby", "1": "beagle"}]),
        "label2id": st.just({name: int(number) for number, name in _NAMES.items()}),
        "num_labels": st.just(3),
        "problem_type": st.sampled_from(["single_label_classification", "multi_label_classification", None]),
    },
)


@pytest.fixture
def write(tmp_path: Path):
    """`write(model_class, labels, files)`: a new folder of a checkpoint without weights."""

    def make(model_class: str, labels: Mapping[str, Any], files: Mapping[str, Any]) -> Path:
        folder = tmp_path / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        config = json.loads(small(model_class).to_json_string())
        config = {name: value for name, value in config.items() if name not in ("id2label", "label2id")} | labels
        for name, content in {"config.json": config | {"architectures": [model_class]}, **files}.items():
            (folder / name).write_text(json.dumps(content))
        return folder

    return make


def head_or_refusal(task: str, folder: Path, files: Mapping[str, Any]) -> Head | None:
    """Return the head of a checkpoint, None if it is refused by the name of one of its files."""
    try:
        return head_for(task, folder, HeadOptions())
    except CheckpointError as error:
        event("refused")
        assert any(name in str(error) for name in (*files, "config.json")), error  # noqa: PT017
        return None


@EXAMPLES
def test_tokens_and_labels_equal_those_of_the_auto_classes(examples: int, write) -> None:
    @many(examples)
    @given(labels=LABELS, files=TEXT_FILES)
    def check(labels: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        folder = write(SEQUENCE, labels, files)
        head = head_or_refusal("text-classification", folder, files)
        if head is None:
            return
        config = AutoConfig.from_pretrained(folder)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except AttributeError:  # for example of `null` in special_tokens_map.json
            event("transformers does not read the files")
            return
        longest = min(tokenizer.model_max_length, config.max_position_embeddings)
        for text in TEXTS:
            expected = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
            assert head.transform(text)["ids"].tolist() == expected, text
        assert dict(enumerate(head.labels.names)) == config.id2label

    check()


def processor_of(folder: Path, files: Mapping[str, Any]) -> Any:
    """Return transformers' image processor of a checkpoint: the default one if no file has settings."""
    if "preprocessor_config.json" in files or files.get("processor_config.json", {}).get("image_processor"):
        return AutoImageProcessor.from_pretrained(folder, backend="pil")
    return PerceiverImageProcessorPil()


@EXAMPLES
@pytest.mark.parametrize("model_class", [FOURIER, LEARNED, CONV])
def test_pixels_and_labels_equal_those_of_the_auto_classes(examples: int, model_class: str, write) -> None:
    @many(examples // 3)
    @given(labels=LABELS, files=IMAGE_FILES)
    @example(labels={}, files={"processor_config.json": {"image_processor": {"size": 30}}})
    def check(labels: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        folder = write(model_class, labels, files)
        head = head_or_refusal("image-classification", folder, files)
        if head is None:
            return
        expected = processor_of(folder, files)(IMAGE, input_data_format="channels_last", return_tensors="np")
        inputs = head.collate({"image": [head.transform(IMAGE)["image"]]})
        found = head.image_transform.normalise(inputs, torch.float32)
        np.testing.assert_array_equal(found, expected["pixel_values"])
        assert dict(enumerate(head.labels.names)) == AutoConfig.from_pretrained(folder).id2label

    check()

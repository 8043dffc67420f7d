"""Files next to the weights, in the forms of transformers 4 and 5: logits equal those of transformers' auto classes."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PerceiverTokenizer,
)

from pipeline.heads import HeadOptions, head_for
from pipeline.heads.image_config import describe_settings
from pipeline.perceiver import PerceiverIO
from pipeline.reference.published_configs import FOURIER, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint

NAMES = {0: "tabby", 1: "beagle", 2: "emu", 3: "rocket", 4: "espresso"}
IMAGE = skimage.data.astronaut()[40:400]
TEXTS = ["An emu [MASK] runs.", " [SEP] and [BOS]  white  space [PAD] ", "é" * 90]

OLD_IMAGE = {
    "crop_size": 24,
    "size": 20,
    "feature_extractor_type": "PerceiverFeatureExtractor",
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 2,
}
NEW_IMAGE = {
    "image_processor_type": "PerceiverImageProcessor",
    "size": {"height": 20, "width": 20},
    "crop_size": {"height": 30, "width": 28},
    "rescale_factor": 1 / 127.5,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}
NESTED = {"image_processor": {**NEW_IMAGE, "image_mean": [0.9, 0.8, 0.7], "do_center_crop": False}}
PREPROCESSORS: dict[str, Mapping[str, Any] | None] = {"none": None, "4": OLD_IMAGE, "5": NEW_IMAGE}
PROCESSORS: dict[str, Mapping[str, Any] | None] = {
    "none": None,
    "4": {"processor_class": "PerceiverProcessor"},
    "5": NESTED,
    "5, null": {"image_processor": None},
}
LABELS: dict[str, dict[str, Any]] = {
    "names": {"id2label": {str(n): name for n, name in NAMES.items()}},
    "number": {"id2label": None, "label2id": None, "num_labels": len(NAMES)},
}


def write(folder: Path, name: str, content: Mapping[str, Any] | None) -> None:
    if content is None:
        (folder / name).unlink(missing_ok=True)
    else:
        (folder / name).write_text(json.dumps(content))


def change_config(folder: Path, values: Mapping[str, Any]) -> None:
    write(folder, "config.json", {**json.loads((folder / "config.json").read_text()), **values})


def predict(task: str, folder: Path, medium: Any) -> dict[str, Any]:
    """Return the row of one unit with its logits."""
    head = head_for(task, folder, HeadOptions(logits=True))
    model = PerceiverIO.from_pretrained(str(folder))
    inputs = head.collate({name: [array] for name, array in head.transform(medium).items()})
    with torch.inference_mode():
        rows = head.rows(head.decode(model, head.encode(model, inputs), inputs))
    return {name: values[0] for name, values in rows.items()}


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(FOURIER, small(FOURIER, id2label=NAMES), tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(SEQUENCE, small(SEQUENCE, id2label=NAMES), tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize(
    ("preprocessor", "processor", "labels"),
    [case for case in itertools.product(PREPROCESSORS, PROCESSORS, LABELS) if case[0] != "none" or case[1] == "5"],
)
def test_image_logits_equal_those_of_the_auto_classes(
    image_folder: Path, preprocessor: str, processor: str, labels: str
) -> None:
    write(image_folder, "preprocessor_config.json", PREPROCESSORS[preprocessor])
    write(image_folder, "processor_config.json", PROCESSORS[processor])
    change_config(image_folder, LABELS[labels])
    model = AutoModelForImageClassification.from_pretrained(image_folder).eval()
    pixels = AutoImageProcessor.from_pretrained(image_folder, backend="pil")(IMAGE, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**pixels).logits[0]
    row = predict("image-classification", image_folder, IMAGE)
    np.testing.assert_allclose(row["logits"], expected, atol=1e-5)
    assert row["label"] == model.config.id2label[int(expected.argmax())]


def test_which_image_settings_are_used_is_said_if_there_are_two_or_none(image_folder: Path) -> None:
    write(image_folder, "preprocessor_config.json", OLD_IMAGE)
    write(image_folder, "processor_config.json", NESTED)
    assert "processor_config.json are used, those of preprocessor_config.json" in describe_settings(image_folder)[0]
    write(image_folder, "preprocessor_config.json", None)
    assert describe_settings(image_folder) == []
    write(image_folder, "processor_config.json", None)
    assert "default image settings are used" in describe_settings(image_folder)[0]


SIX = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
SIX |= {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
ADDED = {token: number for number, token in enumerate(SIX.values())}
TOKENIZERS: dict[str, Mapping[str, Any] | None] = {
    "none": None,
    "4": {
        **SIX,
        "added_tokens_decoder": {str(n): {"content": token, "special": True, **FLAGS} for token, n in ADDED.items()},
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": True,
        "model_max_length": 64,
        "tokenizer_class": "PerceiverTokenizer",
    },
    "4, old": {
        **{name: {"__type": "AddedToken", "content": token, **FLAGS} for name, token in SIX.items()},
        "model_max_length": 40,
        "truncation_side": "left",
        "tokenizer_class": "PerceiverTokenizer",
    },
    "5": {**SIX, "backend": "custom", "extra_special_tokens": [], "model_max_length": 50, "unk_token": None},
}
SPECIAL_MAPS: dict[str, Mapping[str, Any] | None] = {
    "none": None,
    "names": SIX,
    "objects": {name: {"content": token, **FLAGS} for name, token in SIX.items()},
}
ADDED_TOKENS: dict[str, Mapping[str, Any] | None] = {"none": None, "six": ADDED}


@pytest.mark.parametrize(
    ("tokenizer", "special", "added"), list(itertools.product(TOKENIZERS, SPECIAL_MAPS, ADDED_TOKENS))
)
def test_text_logits_equal_those_of_the_auto_classes(
    text_folder: Path, tokenizer: str, special: str, added: str
) -> None:
    write(text_folder, "tokenizer_config.json", TOKENIZERS[tokenizer])
    write(text_folder, "special_tokens_map.json", SPECIAL_MAPS[special])
    write(text_folder, "added_tokens.json", ADDED_TOKENS[added])
    model = AutoModelForSequenceClassification.from_pretrained(text_folder).eval()
    reference = AutoTokenizer.from_pretrained(text_folder)
    longest = min(reference.model_max_length, model.config.max_position_embeddings)
    for text in TEXTS:
        tokens = reference(text, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            expected = model(inputs=tokens.input_ids, attention_mask=tokens.attention_mask).logits[0]
        np.testing.assert_allclose(predict("text-classification", text_folder, text)["logits"], expected, atol=1e-5)


def test_files_that_transformers_saves_are_read(text_folder: Path) -> None:
    write(text_folder, "special_tokens_map.json", None)
    write(text_folder, "added_tokens.json", None)
    PerceiverTokenizer(model_max_length=33).save_pretrained(text_folder)
    assert head_for("text-classification", text_folder, HeadOptions()).tokenizer.max_length == 33


def test_token_files_have_no_effect_next_to_an_added_tokens_decoder(text_folder: Path) -> None:
    write(text_folder, "tokenizer_config.json", TOKENIZERS["4"])
    write(text_folder, "added_tokens.json", {"[NEW]": 262})
    try:
        ids = head_for("text-classification", text_folder, HeadOptions()).transform("a [NEW] b")["ids"]
        assert ids.tolist() == AutoTokenizer.from_pretrained(text_folder)("a [NEW] b")["input_ids"]
    finally:
        write(text_folder, "added_tokens.json", None)

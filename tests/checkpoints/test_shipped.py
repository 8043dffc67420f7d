"""The trained checkpoints that the package contains: found by task or by name, complete, and small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from pipeline.checkpoints import CheckpointError, fetch, shipped_ref
from pipeline.checkpoints.shipped import SHIPPED
from pipeline.heads import HEADS
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import CONV, LEARNED

SMALL = 5_000_000  # bytes of all of them


@pytest.mark.parametrize("task", sorted({*SHIPPED.values(), "feature-extraction"}))
def test_demo_is_the_shipped_checkpoint_of_the_task(task: str) -> None:
    folder = fetch(shipped_ref("demo", task))
    assert transformers_model.model_class_of(folder) in HEADS[task].model_classes


def test_other_image_classes_have_names() -> None:
    classes = [transformers_model.model_class_of(fetch(f"demo:{name}")) for name in ("learned", "conv")]
    assert classes == [LEARNED, CONV]


@pytest.mark.parametrize("ref", ["models/demo", "user/demo", "demo:conv", "s3://bucket/demo"])
def test_other_refs_are_unchanged(ref: str) -> None:
    assert shipped_ref(ref, "image-classification") == ref


def test_a_folder_called_demo_is_used_only_if_it_holds_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert shipped_ref("demo", "image-classification") == "demo:fourier"
    (tmp_path / "demo" / "config.json").write_text("{}")
    assert shipped_ref("demo", "image-classification") == "demo"
    assert fetch("demo") == Path("demo")


def test_a_wrong_name_gets_the_right_ones() -> None:
    with pytest.raises(CheckpointError, match=r"demo:fouriers must name one of .*demo:learned, demo:conv"):
        fetch("demo:fouriers")


@pytest.mark.parametrize("name", SHIPPED)
def test_checkpoint_has_every_file_that_transformers_reads(name: str) -> None:
    folder = fetch(f"demo:{name}")
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == [transformers_model.model_class_of(folder)]
    assert "license:" in (folder / "README.md").read_text()
    task = SHIPPED[name]
    if task.endswith("classification") or task == "multimodal-autoencoding":
        assert not any(label.startswith("LABEL_") for label in config.id2label.values())
    if task == "image-classification":
        assert json.loads((folder / "preprocessor_config.json").read_text())["size"]["height"] == config.image_size
    if task in ("text-classification", "fill-mask"):
        assert AutoTokenizer.from_pretrained(folder)("a")["input_ids"] == [4, 103, 5]


def test_all_checkpoints_together_are_small() -> None:
    files = [path for name in SHIPPED for path in fetch(f"demo:{name}").iterdir()]
    assert sum(path.stat().st_size for path in files) < SMALL

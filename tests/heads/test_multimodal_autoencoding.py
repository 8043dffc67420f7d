"""Multimodal autoencoding from a clip to its row, with small random checkpoints, against transformers."""

from __future__ import annotations

import io
import json
import pickle
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.heads import HEADS
from pipeline.heads.clip_inputs import ClipInputs, ClipShape
from pipeline.heads.multimodal_autoencoding import MultimodalAutoencoding
from pipeline.media import Clip
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import FLOW, FOURIER, MULTIMODAL
from pipeline.sinks.media import media_encoder
from tests.heads.clip_heads import (
    CLIP_COLUMNS,
    NAMES,
    TASK,
    assert_near,
    clips,
    head_of,
    predicted,
    psnr,
    rows_of,
)


def reference(folder: Path, media: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Return audio, image and label of transformers, decoded in as many passes as its documentation uses."""
    model = transformers_model.load(folder)
    image = np.stack([medium.frames for medium in media]).transpose(0, 1, 4, 2, 3) / np.float32(255)
    audio = np.stack([medium.samples for medium in media])[..., None]
    label = torch.zeros(len(media), model.config.num_labels)
    inputs = {"image": torch.from_numpy(image), "audio": torch.from_numpy(audio), "label": label}
    points = (
        transformers_model.chunk_points(model.config, chunk)
        for chunk in range(transformers_model.num_chunks(model.config))
    )
    joined = transformers_model.join_chunks(transformers_model.predict(model, inputs, points=chunk) for chunk in points)
    return {name: joined[name].numpy() for name in ("audio", "image", "label", "latents")}


@pytest.mark.parametrize("name", ["tiny", "wide", "long"])
def test_rows_equal_those_of_transformers_in_many_passes(clip_models: dict[str, Path], name: str) -> None:
    head = head_of(clip_models[name], arrays=True, logits=True)
    media = clips(head, 1 if name == "long" else 3)
    rows, theirs = predicted(head, clip_models[name], media), reference(clip_models[name], media)
    frames, samples = theirs["image"].clip(0, 1).reshape(len(media), -1), theirs["audio"].clip(-1, 1)
    assert 0.1 < ((frames > 0) & (frames < 1)).mean() < 0.9  # values are clipped and not clipped
    assert_near(np.stack(rows["frames"]).reshape(len(media), -1), frames)
    assert_near(rows["samples"], samples)
    assert_near(rows["audio"], samples)
    assert_near(rows["logits"], theirs["label"])
    assert rows["label_id"] == theirs["label"].argmax(axis=1).tolist()
    assert rows["label"] == [NAMES[best] for best in theirs["label"].argmax(axis=1)]
    scores = np.exp(theirs["label"]) / np.exp(theirs["label"]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rows["score"], scores.max(axis=1), atol=1e-5)


def test_video_has_the_frames_as_bytes(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["wide"], arrays=True)
    rows = predicted(head, clip_models["wide"], clips(head))
    video, frames = np.stack(rows["video"]), np.stack(rows["frames"])
    assert (video.dtype, video.shape) == (np.uint8, (3, 3, 12, 20, 3))
    assert (frames.dtype, frames.size) == (np.float32, video.size)
    np.testing.assert_array_equal(video, np.rint(frames.reshape(video.shape) * 255).astype(np.uint8))
    assert video.min() == 0
    assert len(np.unique(video)) > 50
    assert head.columns["video"] == "mp4"


@pytest.mark.parametrize(("name", "column"), [("long", "wav"), ("tiny", "wav:800")])
def test_audio_has_the_rate_of_the_configuration(clip_models: dict[str, Path], name: str, column: str) -> None:
    head = head_of(clip_models[name])
    assert head.columns["audio"] == column
    assert head.clip_spec is not None
    with wave.open(io.BytesIO(media_encoder(column)(np.zeros(9, np.float32)))) as audio:
        assert audio.getframerate() == head.clip_spec.sample_rate


def test_row_has_the_place_of_the_clip_in_its_video(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["tiny"])
    rows = predicted(head, clip_models["tiny"], clips(head))
    assert head.stored_columns == CLIP_COLUMNS
    assert tuple(rows)[:5] == CLIP_COLUMNS
    assert rows["clip_index"] == [7, 8, 9]
    assert rows["start_seconds"] == [0.0, 0.64, 1.28]
    assert rows["end_seconds"] == [0.64, 1.28, 0.64 * 3]
    assert rows["has_audio"] == [True, True, False]
    assert rows["padded_frames"] == [0, 0, 1]
    kinds = {name: np.asarray(rows[name]).dtype for name in CLIP_COLUMNS}
    assert kinds == {name: np.dtype(head.columns[name]) for name in CLIP_COLUMNS}


def test_psnr_is_that_of_the_arrays(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["wide"], arrays=True)
    media = clips(head)
    rows = predicted(head, clip_models["wide"], media)
    for at, medium in enumerate(media):
        frames = rows["frames"][at].reshape(medium.frames.shape)
        assert rows["video_psnr_db"][at] == pytest.approx(psnr(frames, medium.frames / 255, 1), abs=1e-4)
    for at, medium in enumerate(media[:2]):
        assert rows["audio_psnr_db"][at] == pytest.approx(psnr(rows["samples"][at], medium.samples, 2), abs=1e-4)
    assert len(set(rows["video_psnr_db"])) == 3


def test_clip_without_audio_has_decoded_audio_but_no_psnr(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["tiny"])
    rows = predicted(head, clip_models["tiny"], clips(head))
    assert rows["audio_psnr_db"][2] is None
    assert None not in rows["audio_psnr_db"][:2]
    assert rows["audio"][2].shape == (64,)
    assert np.ptp(rows["audio"][2]) > 0


def test_psnr_of_a_perfect_reconstruction_is_infinite(clip_models: dict[str, Path]) -> None:
    """The model is changed to decode negative pixels; clipped, they equal the black input."""
    head = head_of(clip_models["tiny"], outputs=("video",))
    model = PerceiverIO.from_pretrained(str(clip_models["tiny"]), fold=False)
    black = replace(clips(head, 1)[0], frames=np.zeros((2, 16, 16, 3), np.uint8))
    with torch.inference_mode():
        inputs = head.collate({name: [array] for name, array in head.transform(black).items()})
        latents = head.encode(model, inputs)
        projection = dict(model.named_modules())["decoder.outputs.image.postprocessor.linear"]
        projection.weight.zero_()
        projection.bias.fill_(-1)
        rows = head.rows(head.decode(model, latents, inputs))
    assert rows["video_psnr_db"] == [float("inf")]
    assert not np.asarray(rows["video"]).any()


def test_clips_decoded_from_stored_latents_are_equal_but_have_no_psnr(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["tiny"], arrays=True, logits=True)
    first, latents = rows_of(head, clip_models["tiny"], [head.transform(medium) for medium in clips(head)])
    stored = [{name: first[name][at] for name in head.stored_columns} for at in range(3)]
    restored = [head.arrays_from_row(row) for row in stored]
    assert set(restored[0]) == {"times", "flags"}
    decoded, _ = rows_of(head, clip_models["tiny"], restored, latents=latents)
    assert decoded.pop("video_psnr_db") == decoded.pop("audio_psnr_db") == [None] * 3
    for name, column in decoded.items():
        if name in ("video", "audio", "frames", "samples", "logits"):
            np.testing.assert_array_equal(column, first[name])
        else:
            assert column == first[name]


def test_batch_gives_the_rows_of_single_clips(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["tiny"], arrays=True, logits=True)
    media = clips(head)
    together = predicted(head, clip_models["tiny"], media)
    for at, medium in enumerate(media):
        alone = predicted(head, clip_models["tiny"], [medium])
        for name in ("frames", "samples", "logits"):
            assert_near(alone[name][0], np.asarray(together[name][at]))


def test_bfloat16_model_gives_nearly_the_same_float32_values(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["tiny"], arrays=True, logits=True)
    media = clips(head)
    exact, rough = (predicted(head, clip_models["tiny"], media, dtype) for dtype in (torch.float32, torch.bfloat16))
    for name in ("frames", "samples", "logits"):
        assert np.stack(rough[name]).dtype == np.float32
        difference = np.abs(np.stack(rough[name]) - np.stack(exact[name]))
        assert 0 < difference.mean() < 0.02 * np.ptp(np.stack(exact[name]))
    np.testing.assert_allclose(rough["video_psnr_db"], exact["video_psnr_db"], atol=0.3)


@pytest.mark.parametrize("model_class", [FLOW, FOURIER])
def test_checkpoint_of_another_class_is_rejected(tmp_path: Path, model_class: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [model_class]}))
    with pytest.raises(CheckpointError) as caught:
        head_of(tmp_path)
    for name in (str(tmp_path), model_class, TASK, MULTIMODAL):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_frames": 0}, r"num_frames \(0\)"),
        ({"num_frames": True}, "num_frames"),
        ({"audio_samples_per_frame": "1920"}, "audio_samples_per_frame"),
        ({"samples_per_patch": 7}, r"samples_per_patch \(7\) must divide the 30720 samples"),
        ({"output_shape": [16, 224, 224]}, "output_shape"),
        ({"output_shape": [1, 16, 224, 0]}, "output_shape"),
        ({"output_shape": [1, 8, 224, 224]}, r"output_shape .* num_frames \(16\)"),
        ({"output_shape": [1, 16, 224, 222]}, "output_shape .* divisible by 4"),
        ({"id2label": []}, "id2label"),
    ],
)
def test_invalid_config_is_rejected_with_its_key(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [MULTIMODAL], **config}))
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        head_of(tmp_path)


def test_clip_inputs_give_the_latents_of_the_head(clip_models: dict[str, Path]) -> None:
    head, inputs = head_of(clip_models["tiny"]), ClipInputs.from_folder(clip_models["tiny"])
    assert inputs == ClipInputs(shape=ClipShape(frames=2, height=16, width=16, samples_per_frame=32))
    medium = clips(head, 1)[0]
    model = PerceiverIO.from_pretrained(str(clip_models["tiny"]))
    latents = [
        each.encode(model, each.collate({name: [array] for name, array in each.transform(medium).items()}))
        for each in (head, inputs)
    ]
    torch.testing.assert_close(latents[0], latents[1], rtol=0, atol=0)
    assert_near(latents[0], reference(clip_models["tiny"], [medium])["latents"])
    assert (inputs.medium, inputs.bytes_per_medium_byte) == ("clip", 1.0)
    assert inputs.unit_bytes == medium.frames.nbytes + medium.samples.nbytes


def test_pickled_head_is_small(clip_models: dict[str, Path]) -> None:
    head = head_of(clip_models["long"])
    assert pickle.loads(pickle.dumps(head)) == head
    assert len(pickle.dumps(head)) < 10_000
    assert HEADS[TASK] is MultimodalAutoencoding

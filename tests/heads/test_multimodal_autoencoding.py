"""Multimodal autoencoding from a clip to its row, with small random checkpoints, against transformers."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from pipeline.heads import HEADS, HeadOptions, head_for
from pipeline.heads.clip_inputs import ClipInputs, ClipShape
from pipeline.heads.head import Head
from pipeline.heads.multimodal_autoencoding import MultimodalAutoencoding
from pipeline.media import Clip
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference import transformers_model
from pipeline.reference.published_configs import FLOW, FOURIER, MULTIMODAL, SHAPES, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.sinks.media import media_encoder

TASK = "multimodal-autoencoding"
NAMES = {0: "juggling", 1: "archery", 2: "yoga", 3: "surfing", 4: "welding"}
PHOTOGRAPHS = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]

TINY: Mapping[str, Any] = {"id2label": NAMES}
WIDE: Mapping[str, Any] = {"id2label": NAMES, "num_frames": 3, "output_shape": [1, 3, 12, 20]}
# Frames, samples and patches of the published model, with smaller frames: transformers needs 128 passes.
LONG: Mapping[str, Any] = {
    "id2label": NAMES,
    "num_frames": 16,
    "audio_samples_per_frame": 1920,
    "samples_per_patch": 16,
    "output_shape": [1, 16, 16, 16],
}
CLIP_COLUMNS = ("clip_index", "start_seconds", "end_seconds", "has_audio", "padded_frames")
ARRAYS = ("video", "pixels", "audio", "frames", "samples")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint per shape."""
    root = tmp_path_factory.mktemp("checkpoints")
    shapes = {"tiny": TINY, "wide": WIDE, "long": LONG}
    return {name: make_checkpoint(MULTIMODAL, small(MULTIMODAL, **each), root / name) for name, each in shapes.items()}


def head_of(folder: Path, **options: Any) -> Head:
    return head_for(TASK, folder, HeadOptions(**options))


def clips(head: Head, count: int = 3) -> list[Clip]:
    """Return clips as a source reads them: moving photographs with a chord; the last one is silent and padded."""
    spec = head.clip_spec
    assert spec is not None
    made = []
    for number in range(count):
        image = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        moved = [np.roll(image, 9 * at, axis=1) for at in range(spec.frames)]
        seconds = np.arange(spec.samples) / spec.sample_rate
        chord = sum(np.sin(2 * np.pi * pitch * (1 + number) * seconds) for pitch in (300, 470)) / 2
        silent = number == count - 1
        made.append(
            Clip(
                frames=np.stack([spec.reduce(frame) for frame in moved]),
                samples=(np.zeros_like(seconds) if silent else chord).astype(np.float32),
                has_audio=not silent,
                clip_index=7 + number,
                start_seconds=0.64 * number,
                end_seconds=0.64 * (number + 1),
                padded_frames=int(silent),
            )
        )
    return made


def predicted(
    head: Head, folder: Path, media: Sequence[Clip], dtype: torch.dtype = torch.float32
) -> dict[str, list[Any]]:
    """Return the columns of the clips, as a replica computes them."""
    return rows_of(head, folder, [head.transform(medium) for medium in media], dtype)[0]


def rows_of(
    head: Head,
    folder: Path,
    units: Sequence[Mapping[str, np.ndarray]],
    dtype: torch.dtype = torch.float32,
    latents: torch.Tensor | None = None,
) -> tuple[dict[str, list[Any]], torch.Tensor]:
    """Return the columns, and the latents, of units from `transform` or `arrays_from_row`."""
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    with torch.inference_mode():
        inputs = head.collate({name: [unit[name] for unit in units] for name in units[0]})
        assert head.latents_per_unit(inputs) == [1] * len(units)
        if latents is None:
            latents = head.encode(model, inputs)
        rows = head.rows(head.decode(model, latents, inputs))
    assert list(rows) == list(head.columns)
    assert {len(column) for column in rows.values()} == {len(units)}
    return {name: list(column) for name, column in rows.items()}, latents


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


def assert_near(found: Any, expected: np.ndarray, share: float = 1e-5) -> None:
    """Assert equality up to a fraction `share` of the greatest expected value; expected values differ by much more."""
    atol = share * float(np.abs(expected).max())
    assert np.ptp(expected) > 1000 * atol
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["tiny", "wide", "long"])
def test_rows_equal_those_of_transformers_in_many_passes(folders: dict[str, Path], name: str) -> None:
    head = head_of(folders[name], arrays=True, logits=True)
    media = clips(head, 1 if name == "long" else 3)
    rows, theirs = predicted(head, folders[name], media), reference(folders[name], media)
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


def test_video_has_the_frames_as_bytes(folders: dict[str, Path]) -> None:
    head = head_of(folders["wide"], arrays=True)
    rows = predicted(head, folders["wide"], clips(head))
    video, frames = np.stack(rows["video"]), np.stack(rows["frames"])
    assert (video.dtype, video.shape) == (np.uint8, (3, 3, 12, 20, 3))
    assert (frames.dtype, frames.size) == (np.float32, video.size)
    np.testing.assert_array_equal(video, np.rint(frames.reshape(video.shape) * 255).astype(np.uint8))
    assert video.min() == 0
    assert len(np.unique(video)) > 50
    assert head.columns["video"] == "mp4"


@pytest.mark.parametrize(("name", "column"), [("long", "wav"), ("tiny", "wav:800")])
def test_audio_has_the_rate_of_the_configuration(folders: dict[str, Path], name: str, column: str) -> None:
    head = head_of(folders[name])
    assert head.columns["audio"] == column
    assert head.clip_spec is not None
    with wave.open(io.BytesIO(media_encoder(column)(np.zeros(9, np.float32)))) as audio:
        assert audio.getframerate() == head.clip_spec.sample_rate


def test_row_has_the_place_of_the_clip_in_its_video(folders: dict[str, Path]) -> None:
    head = head_of(folders["tiny"])
    rows = predicted(head, folders["tiny"], clips(head))
    assert head.stored_columns == CLIP_COLUMNS
    assert tuple(rows)[:5] == CLIP_COLUMNS
    assert rows["clip_index"] == [7, 8, 9]
    assert rows["start_seconds"] == [0.0, 0.64, 1.28]
    assert rows["end_seconds"] == [0.64, 1.28, 0.64 * 3]
    assert rows["has_audio"] == [True, True, False]
    assert rows["padded_frames"] == [0, 0, 1]
    kinds = {name: np.asarray(rows[name]).dtype for name in CLIP_COLUMNS}
    assert kinds == {name: np.dtype(head.columns[name]) for name in CLIP_COLUMNS}


def psnr(found: np.ndarray, original: np.ndarray, peak: float) -> float:
    error = np.mean((found.astype(np.float64) - original.astype(np.float64)) ** 2)
    return float(20 * np.log10(peak) - 10 * np.log10(error))


def test_psnr_is_that_of_the_arrays(folders: dict[str, Path]) -> None:
    head = head_of(folders["wide"], arrays=True)
    media = clips(head)
    rows = predicted(head, folders["wide"], media)
    for at, medium in enumerate(media):
        frames = rows["frames"][at].reshape(medium.frames.shape)
        assert rows["video_psnr_db"][at] == pytest.approx(psnr(frames, medium.frames / 255, 1), abs=1e-4)
    for at, medium in enumerate(media[:2]):
        assert rows["audio_psnr_db"][at] == pytest.approx(psnr(rows["samples"][at], medium.samples, 2), abs=1e-4)
    assert len(set(rows["video_psnr_db"])) == 3


def test_clip_without_audio_has_decoded_audio_but_no_psnr(folders: dict[str, Path]) -> None:
    head = head_of(folders["tiny"])
    rows = predicted(head, folders["tiny"], clips(head))
    assert rows["audio_psnr_db"][2] is None
    assert None not in rows["audio_psnr_db"][:2]
    assert rows["audio"][2].shape == (64,)
    assert np.ptp(rows["audio"][2]) > 0


def test_psnr_of_a_perfect_reconstruction_is_infinite(folders: dict[str, Path]) -> None:
    """The model is changed to decode negative pixels; clipped, they equal the black input."""
    head = head_of(folders["tiny"], outputs=("video",))
    model = PerceiverIO.from_pretrained(str(folders["tiny"]), fold=False)
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


@pytest.mark.parametrize(
    "outputs", [("video",), ("audio",), ("label",), ("label", "video"), ("audio", "label"), ("video", "audio")]
)
def test_only_requested_outputs_are_decoded_with_equal_values(
    folders: dict[str, Path], outputs: tuple[str, ...]
) -> None:
    whole, some = head_of(folders["tiny"]), head_of(folders["tiny"], outputs=outputs)
    media = clips(whole)
    everything, rows = (predicted(head, folders["tiny"], media) for head in (whole, some))
    label = {"label_id", "label", "score", "topk"}
    columns = {"video": {"video", "video_psnr_db"}, "audio": {"audio", "audio_psnr_db"}, "label": label}
    assert set(rows) == set(CLIP_COLUMNS).union(*(columns[name] for name in outputs))
    assert list(rows) == [name for name in everything if name in rows]
    for name in rows:
        if name in ("video", "audio"):
            np.testing.assert_array_equal(rows[name], everything[name])
        else:
            assert rows[name] == everything[name]


def test_requested_frames_equal_those_of_the_whole_clip(folders: dict[str, Path]) -> None:
    whole, some = head_of(folders["wide"], arrays=True), head_of(folders["wide"], arrays=True, frames=(2, 0))
    media = clips(whole)
    everything, rows = (predicted(head, folders["wide"], media) for head in (whole, some))
    frames = np.stack(everything["frames"]).reshape(3, 3, 12, 20, 3)[:, [2, 0]]
    assert_near(np.stack(rows["frames"]).reshape(frames.shape), frames)
    assert np.stack(rows["video"]).shape == frames.shape
    for at, medium in enumerate(media):
        expected = psnr(frames[at], medium.frames[[2, 0]] / 255, 1)
        assert rows["video_psnr_db"][at] == pytest.approx(expected, abs=1e-4)
    assert rows["score"] == everything["score"]


@pytest.mark.parametrize("frames", [(), (1,), (2, 0)])
def test_requested_pixels_equal_those_of_the_whole_clip(folders: dict[str, Path], frames: tuple[int, ...]) -> None:
    points = ((0, 0), (19, 0), (0, 11), (19, 11), (7, 3))
    whole = head_of(folders["wide"], arrays=True)
    some = head_of(folders["wide"], arrays=True, points=points, frames=frames)
    media = clips(whole)
    everything, rows = (predicted(head, folders["wide"], media) for head in (whole, some))
    assert not {"video", "frames"} & set(rows)
    kept = list(frames or range(3))
    columns, lines = zip(*points, strict=True)
    expected = np.stack(everything["frames"]).reshape(3, 3, 12, 20, 3)[:, kept][:, :, list(lines), list(columns)]
    assert_near(np.stack(rows["pixels"]).reshape(expected.shape), expected)
    assert some.columns["pixels"] == ["float32"]
    for at, medium in enumerate(media):
        original = medium.frames[kept][:, list(lines), list(columns)] / 255
        assert rows["video_psnr_db"][at] == pytest.approx(psnr(expected[at], original, 1), abs=1e-4)


def test_clips_decoded_from_stored_latents_are_equal_but_have_no_psnr(folders: dict[str, Path]) -> None:
    head = head_of(folders["tiny"], arrays=True, logits=True)
    first, latents = rows_of(head, folders["tiny"], [head.transform(medium) for medium in clips(head)])
    stored = [{name: first[name][at] for name in head.stored_columns} for at in range(3)]
    restored = [head.arrays_from_row(row) for row in stored]
    assert set(restored[0]) == {"times", "flags"}
    decoded, _ = rows_of(head, folders["tiny"], restored, latents=latents)
    assert decoded.pop("video_psnr_db") == decoded.pop("audio_psnr_db") == [None] * 3
    for name, column in decoded.items():
        if name in ("video", "audio", "frames", "samples", "logits"):
            np.testing.assert_array_equal(column, first[name])
        else:
            assert column == first[name]


def test_batch_gives_the_rows_of_single_clips(folders: dict[str, Path]) -> None:
    head = head_of(folders["tiny"], arrays=True, logits=True)
    media = clips(head)
    together = predicted(head, folders["tiny"], media)
    for at, medium in enumerate(media):
        alone = predicted(head, folders["tiny"], [medium])
        for name in ("frames", "samples", "logits"):
            assert_near(alone[name][0], np.asarray(together[name][at]))


def test_bfloat16_model_gives_nearly_the_same_float32_values(folders: dict[str, Path]) -> None:
    head = head_of(folders["tiny"], arrays=True, logits=True)
    media = clips(head)
    exact, rough = (predicted(head, folders["tiny"], media, dtype) for dtype in (torch.float32, torch.bfloat16))
    for name in ("frames", "samples", "logits"):
        assert np.stack(rough[name]).dtype == np.float32
        difference = np.abs(np.stack(rough[name]) - np.stack(exact[name]))
        assert 0 < difference.mean() < 0.02 * np.ptp(np.stack(exact[name]))
    np.testing.assert_allclose(rough["video_psnr_db"], exact["video_psnr_db"], atol=0.3)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (0, 0, 64, 64)),
        ((90, 60), (15, 0, 75, 60)),  # a square with the shorter side
        ((33, 70), (0, 18, 33, 51)),
        ((5, 5), (0, 0, 5, 5)),
        ((1, 1), (0, 0, 1, 1)),
        ((16, 16), (0, 0, 16, 16)),
    ],
)
def test_frame_is_cropped_to_its_centre_and_resized_by_pillow(
    folders: dict[str, Path], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(PHOTOGRAPHS[0]).resize(size)
    expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BILINEAR))
    reduce = head_of(folders["tiny"]).clip_spec.reduce
    frame = np.asarray(image)
    np.testing.assert_array_equal(reduce(frame), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reduce))(frame), expected)
    assert reduce(frame).flags.writeable


@pytest.mark.parametrize(("size", "box"), [((60, 60), (0, 12, 60, 48)), ((200, 60), (50, 0, 150, 60))])
def test_frame_is_cropped_to_the_aspect_ratio_of_the_output(
    folders: dict[str, Path], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(PHOTOGRAPHS[0]).resize(size)
    expected = np.asarray(image.crop(box).resize((20, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(head_of(folders["wide"]).clip_spec.reduce(np.asarray(image)), expected)


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1)])
def test_frame_of_any_size_is_reduced_to_the_models_size(folders: dict[str, Path], size: tuple[int, int]) -> None:
    assert head_of(folders["wide"]).clip_spec.reduce(np.zeros((*size, 3), np.uint8)).shape == (12, 20, 3)


def test_default_clip_is_that_of_the_published_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [MULTIMODAL]}))
    spec = head_of(tmp_path).clip_spec
    assert spec is not None
    published = SHAPES["multimodal-perceiver"].config()
    assert spec.reduce(np.zeros((300, 500, 3), np.uint8)).shape == (*published.output_shape[2:], 3)
    assert (spec.frames, spec.fps, spec.samples, spec.sample_rate) == (16, 25.0, 30_720, 48_000)
    assert published.num_frames * published.audio_samples_per_frame == 30_720


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "frames",
            np.zeros((3, 16, 16, 3), np.uint8),
            r"frames \(uint8 \[3, 16, 16, 3\]\) must be uint8 \[2, 16, 16, 3\]",
        ),
        ("frames", np.zeros((2, 16, 16, 3), np.float32), r"frames \(float32"),
        ("samples", np.zeros(63, np.float32), r"samples \(float32 \[63\]\) must be float32 \[64\]"),
        ("samples", np.zeros(64, np.int16), r"samples \(int16"),
    ],
)
def test_clip_of_another_shape_is_rejected(
    folders: dict[str, Path], name: str, value: np.ndarray, message: str
) -> None:
    head = head_of(folders["tiny"])
    with pytest.raises(ValueError, match=message):
        head.transform(replace(clips(head, 1)[0], **{name: value}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": (0, 2)}, r"frames has 2, a clip has the frames 0 to 1"),
        ({"frames": (-1,)}, r"frames has -1"),
        ({"points": ((0, 0), (16, 3))}, r"points has 16,3, a frame has the pixels 0,0 to 15,15"),
        ({"points": ((3, 16),)}, r"points has 3,16"),
        ({"points": ((-1, 0),)}, r"points has -1,0"),
        ({"outputs": ("label",), "frames": (0,)}, r"frames .* is not supported for .* without its video"),
        ({"outputs": ("audio",), "points": ((0, 0),)}, r"points .* without its video"),
        ({"outputs": ("video", "audio"), "logits": True}, r"logits .* without its label"),
        ({"outputs": ("label",), "arrays": True}, r"arrays .* without its video and audio"),
    ],
)
def test_invalid_option_is_rejected_when_the_head_is_created(
    folders: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        head_of(folders["tiny"], **options)


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


def test_fingerprint_changes_with_every_option_that_changes_a_row(folders: dict[str, Path]) -> None:
    def fingerprint_options(name: str = "tiny", **options: Any) -> object:
        found = head_of(folders[name], **options).fingerprint_options
        assert json.loads(json.dumps(found)) == found
        return found

    changes: list[dict[str, Any]] = [
        {"outputs": ("label",)},
        {"frames": (1,)},
        {"points": ((1, 2),)},
        {"arrays": True},
        {"top_k": 4},
        {"logits": True},
    ]
    found = [fingerprint_options(), fingerprint_options("wide"), *(fingerprint_options(**change) for change in changes)]
    assert all(one != other for at, one in enumerate(found) for other in found[:at])
    assert fingerprint_options(outputs=("label", "video")) == fingerprint_options(outputs=("video", "label"))
    assert fingerprint_options(outputs=("video", "audio", "label")) == fingerprint_options()
    assert fingerprint_options(outputs=("audio",)) == fingerprint_options(outputs=("audio",), top_k=1)


@pytest.mark.parametrize(
    "options",
    [{}, {"arrays": True}, {"outputs": ("label",)}, {"arrays": True, "frames": (1,)}, {"points": ((0, 0), (3, 4))}],
)
def test_unit_bytes_are_those_of_its_arrays(folders: dict[str, Path], options: dict[str, Any]) -> None:
    head = head_of(folders["tiny"], **options)
    medium = clips(head, 1)[0]
    given = medium.frames.nbytes + medium.samples.nbytes
    rows = predicted(head, folders["tiny"], [medium])
    left = sum(np.asarray(rows[name][0]).nbytes for name in ARRAYS if name in rows)
    assert head.unit_bytes == max(given, left)
    assert head.bytes_per_medium_byte == max(given, left) / given


def test_clip_inputs_give_the_latents_of_the_head(folders: dict[str, Path]) -> None:
    head, inputs = head_of(folders["tiny"]), ClipInputs.from_folder(folders["tiny"])
    assert inputs == ClipInputs(shape=ClipShape(frames=2, height=16, width=16, samples_per_frame=32))
    medium = clips(head, 1)[0]
    model = PerceiverIO.from_pretrained(str(folders["tiny"]))
    latents = [
        each.encode(model, each.collate({name: [array] for name, array in each.transform(medium).items()}))
        for each in (head, inputs)
    ]
    torch.testing.assert_close(latents[0], latents[1], rtol=0, atol=0)
    assert_near(latents[0], reference(folders["tiny"], [medium])["latents"])
    assert (inputs.medium, inputs.bytes_per_medium_byte) == ("clip", 1.0)
    assert inputs.unit_bytes == medium.frames.nbytes + medium.samples.nbytes


def test_pickled_head_is_small(folders: dict[str, Path]) -> None:
    head = head_of(folders["long"])
    assert pickle.loads(pickle.dumps(head)) == head
    assert len(pickle.dumps(head)) < 10_000
    assert HEADS[TASK] is MultimodalAutoencoding


_LOAD_TASK = """
import pickle, sys
import numpy as np
head = pickle.loads(bytes.fromhex(sys.argv[1]))
from pipeline.media import Clip
clip = head.clip_spec
frames = np.stack([clip.reduce(np.zeros((9, 30, 3), np.uint8))] * clip.frames)
samples = np.zeros(clip.samples, np.float32)
times = {"clip_index": 0, "start_seconds": 0.0, "end_seconds": 0.64, "has_audio": False, "padded_frames": 0}
head.transform(Clip(frames=frames, samples=samples, **times))
print(sorted({"torch", "transformers", "ray", "pyarrow", "av"} & set(sys.modules)))
"""


def test_load_task_does_not_import_torch(folders: dict[str, Path]) -> None:
    command = [sys.executable, "-c", _LOAD_TASK, pickle.dumps(head_of(folders["long"])).hex()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"

"""Options of multimodal autoencoding: the outputs, frames and pixels that are decoded, with equal values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.heads.clip_heads import (
    CLIP_COLUMNS,
    assert_near,
    clips,
    head_of,
    predicted,
    psnr,
)

ARRAYS = ("video", "pixels", "audio", "frames", "samples")


@pytest.mark.parametrize(
    "outputs", [("video",), ("audio",), ("label",), ("label", "video"), ("audio", "label"), ("video", "audio")]
)
def test_only_requested_outputs_are_decoded_with_equal_values(
    clip_models: dict[str, Path], outputs: tuple[str, ...]
) -> None:
    whole, some = head_of(clip_models["tiny"]), head_of(clip_models["tiny"], outputs=outputs)
    media = clips(whole)
    everything, rows = (predicted(head, clip_models["tiny"], media) for head in (whole, some))
    label = {"label_id", "label", "score", "topk"}
    columns = {"video": {"video", "video_psnr_db"}, "audio": {"audio", "audio_psnr_db"}, "label": label}
    assert set(rows) == set(CLIP_COLUMNS).union(*(columns[name] for name in outputs))
    assert list(rows) == [name for name in everything if name in rows]
    for name in rows:
        if name in ("video", "audio"):
            np.testing.assert_array_equal(rows[name], everything[name])
        else:
            assert rows[name] == everything[name]


def test_requested_frames_equal_those_of_the_whole_clip(clip_models: dict[str, Path]) -> None:
    whole, some = head_of(clip_models["wide"], arrays=True), head_of(clip_models["wide"], arrays=True, frames=(2, 0))
    media = clips(whole)
    everything, rows = (predicted(head, clip_models["wide"], media) for head in (whole, some))
    frames = np.stack(everything["frames"]).reshape(3, 3, 12, 20, 3)[:, [2, 0]]
    assert_near(np.stack(rows["frames"]).reshape(frames.shape), frames)
    assert np.stack(rows["video"]).shape == frames.shape
    for at, medium in enumerate(media):
        expected = psnr(frames[at], medium.frames[[2, 0]] / 255, 1)
        assert rows["video_psnr_db"][at] == pytest.approx(expected, abs=1e-4)
    assert rows["score"] == everything["score"]


@pytest.mark.parametrize("frames", [(), (1,), (2, 0)])
def test_requested_pixels_equal_those_of_the_whole_clip(clip_models: dict[str, Path], frames: tuple[int, ...]) -> None:
    points = ((0, 0), (19, 0), (0, 11), (19, 11), (7, 3))
    whole = head_of(clip_models["wide"], arrays=True)
    some = head_of(clip_models["wide"], arrays=True, points=points, frames=frames)
    media = clips(whole)
    everything, rows = (predicted(head, clip_models["wide"], media) for head in (whole, some))
    assert not {"video", "frames"} & set(rows)
    kept = list(frames or range(3))
    columns, lines = zip(*points, strict=True)
    expected = np.stack(everything["frames"]).reshape(3, 3, 12, 20, 3)[:, kept][:, :, list(lines), list(columns)]
    assert_near(np.stack(rows["pixels"]).reshape(expected.shape), expected)
    assert some.columns["pixels"] == ["float32"]
    for at, medium in enumerate(media):
        original = medium.frames[kept][:, list(lines), list(columns)] / 255
        assert rows["video_psnr_db"][at] == pytest.approx(psnr(expected[at], original, 1), abs=1e-4)


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
    clip_models: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        head_of(clip_models["tiny"], **options)


def test_fingerprint_changes_with_every_option_that_changes_a_row(clip_models: dict[str, Path]) -> None:
    def fingerprint_options(name: str = "tiny", **options: Any) -> object:
        found = head_of(clip_models[name], **options).fingerprint_options
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
def test_unit_bytes_are_those_of_its_arrays(clip_models: dict[str, Path], options: dict[str, Any]) -> None:
    head = head_of(clip_models["tiny"], **options)
    medium = clips(head, 1)[0]
    given = medium.frames.nbytes + medium.samples.nbytes
    rows = predicted(head, clip_models["tiny"], [medium])
    left = sum(np.asarray(rows[name][0]).nbytes for name in ARRAYS if name in rows)
    assert head.unit_bytes == max(given, left)
    assert head.bytes_per_medium_byte == max(given, left) / given

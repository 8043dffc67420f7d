"""Optical flow from a frame pair to its row, with small random checkpoints, against transformers."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from transformers import PerceiverForOpticalFlow

from pipeline.heads import HEADS, HeadOptions, head_for
from pipeline.heads.flow_inputs import FlowInputs, reduce_frames
from pipeline.heads.optical_flow import OpticalFlow
from pipeline.media import FramePair
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.reference.published_configs import CONV, FLOW, small
from pipeline.reference.random_checkpoints import make_checkpoint
from tests.reference_outputs import flow_in_tiles

TILE = (16, 24)
SIZES = {
    "a tile": (16, 24),
    "a little larger": (17, 27),
    "several tiles both ways": (50, 70),
    "smaller": (9, 11),
    "lower and wider": (7, 61),
    "higher and narrower": (40, 5),
    "one pixel": (1, 1),
}
POINTS = ((0, 0), (69, 49), (12, 8), (35, 20), (35, 20), (47, 31))  # (x, y); one twice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with tiles of 16 × 24 pixels."""
    return make_checkpoint(FLOW, small(FLOW), tmp_path_factory.mktemp("model"))


def pair(size: tuple[int, int], number: int = 0, start: float | None = None) -> FramePair:
    """Return two frames of a photograph, the second moved by (2, 1) pixels."""
    image = skimage.data.astronaut()[60 + 40 * number :, 150 + 10 * number :]
    height, width = size
    frames = np.stack([image[1 : 1 + height, 2 : 2 + width], image[:height, :width]])
    return FramePair(frames=frames, frame_index=7 + number, start_seconds=start)


def predicted(
    folder: Path, media: list[FramePair], dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[dict[str, list[Any]], torch.Tensor]:
    """Return the columns of pairs of one size, as a replica computes them, and their latents."""
    head = head_for("optical-flow", folder, HeadOptions(**{"array_dtype": "float32", **options}))
    model = PerceiverIO.from_pretrained(str(folder), dtype=dtype)
    units = [head.transform(medium) for medium in media]
    assert len({head.bucket({name: array.shape for name, array in unit.items()}) for unit in units}) == 1
    with torch.inference_mode():
        inputs = head.collate({name: [unit[name] for unit in units] for name in units[0]})
        latents = head.encode(model, inputs)
        assert sum(head.latents_per_unit(inputs)) == len(latents)
        rows = head.rows(head.decode(model, latents, inputs))
    assert list(rows) == list(head.columns)
    assert {len(column) for column in rows.values()} == {len(media)}
    return {name: list(column) for name, column in rows.items()}, latents


def assert_close(ours: np.ndarray, theirs: np.ndarray, share: float) -> None:
    """Assert that the greatest difference is at most a fraction `share` of the range."""
    scale = np.abs(theirs).max()
    assert scale > 0.01, "the expected flow is too small to compare with"
    assert np.abs(ours - theirs).max() <= share * scale


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_flow_equals_that_of_transformers_tile_by_tile(folder: Path, size: tuple[int, int]) -> None:
    media = [pair(size, 0, 0.5), pair(size, 1)]
    rows, _ = predicted(folder, media)
    model = PerceiverForOpticalFlow.from_pretrained(folder).eval()
    for at, medium in enumerate(media):
        assert rows["flow"][at].dtype == np.float32
        assert_close(rows["flow"][at].reshape(*size, 2), flow_in_tiles(model, medium.frames, (8, 12)), 1e-5)
    assert rows["frame_index"] == [7, 8]
    assert rows["start_seconds"] == [0.5, None]
    assert (rows["height"], rows["width"]) == ([size[0]] * 2, [size[1]] * 2)


def test_tiles_of_at_least_40_pixels_overlap_by_20(tmp_path: Path) -> None:
    folder = make_checkpoint(FLOW, small(FLOW, train_size=[44, 52]), tmp_path)
    medium = pair((100, 130))
    rows, latents = predicted(folder, [medium])
    assert len(latents) == len([0, 24, 48, 56]) * len([0, 32, 64, 78])
    model = PerceiverForOpticalFlow.from_pretrained(folder).eval()
    assert_close(rows["flow"][0].reshape(100, 130, 2), flow_in_tiles(model, medium.frames, (20, 20)), 1e-5)


@pytest.mark.parametrize("tiles_per_batch", [3, 100])
def test_flow_does_not_depend_on_the_number_of_tiles_per_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tiles_per_batch: int
) -> None:
    media = [pair((50, 70), number) for number in range(3)]
    alone = [predicted(folder, [medium])[0]["flow"][0] for medium in media]
    some = [predicted(folder, [medium], points=POINTS)[0]["flow"][0] for medium in media]
    monkeypatch.setitem(sys.modules["pipeline.heads.flow_inputs"].TILES_PER_BATCH, "cpu", tiles_per_batch)
    np.testing.assert_allclose(predicted(folder, media)[0]["flow"], alone, atol=1e-5)
    np.testing.assert_allclose(predicted(folder, media, points=POINTS)[0]["flow"], some, atol=1e-5)


def test_flow_at_points_equals_the_dense_flow(folder: Path) -> None:
    media = [pair((50, 70), number) for number in range(2)]
    dense, _ = predicted(folder, media)
    rows, _ = predicted(folder, media, points=POINTS)
    assert list(rows) == ["frame_index", "start_seconds", "height", "width", "points", "flow"]
    for at in range(2):
        assert rows["points"][at].tolist() == [side for point in POINTS for side in point]
        assert rows["points"][at].dtype == np.int32
        expected = [dense["flow"][at].reshape(50, 70, 2)[y, x] for x, y in POINTS]
        assert_close(rows["flow"][at].reshape(-1, 2), np.array(expected), 1e-5)


def test_flow_at_points_of_a_frame_smaller_than_a_tile(folder: Path) -> None:
    points = ((0, 0), (10, 8), (4, 2))
    dense, _ = predicted(folder, [pair((9, 11))])
    rows, _ = predicted(folder, [pair((9, 11))], points=points)
    expected = [dense["flow"][0].reshape(9, 11, 2)[y, x] for x, y in points]
    assert_close(rows["flow"][0].reshape(-1, 2), np.array(expected), 1e-5)


def test_point_outside_a_frame_is_an_error_of_that_pair(folder: Path) -> None:
    head = head_for("optical-flow", folder, HeadOptions(points=((20, 5),)))
    assert head.transform(pair((16, 24)))["index"].tolist() == [7]
    with pytest.raises(ValueError, match="point 20,5 lies outside a frame of 11 by 9 pixels"):
        head.transform(pair((9, 11)))


def test_float16_flow_is_the_rounded_float32_flow(folder: Path) -> None:
    exact, _ = predicted(folder, [pair((50, 70))])
    rounded, _ = predicted(folder, [pair((50, 70))], array_dtype="float16")
    assert rounded["flow"][0].dtype == np.float16
    np.testing.assert_array_equal(rounded["flow"][0], exact["flow"][0].astype(np.float16))
    head = head_for("optical-flow", folder, HeadOptions())
    assert head.columns["flow"] == ["float16"]


def test_large_frames_are_reduced_to_the_greatest_side(folder: Path) -> None:
    medium = pair((90, 120))
    frames = reduce_frames(medium.frames, 40)
    means = medium.frames.reshape(2, 30, 3, 40, 3, 3).mean((2, 4))
    assert np.abs(frames - means).max() <= 1
    reduced = FramePair(frames=frames, frame_index=medium.frame_index, start_seconds=None)
    (found, _), (expected, _) = predicted(folder, [medium], max_side=40), predicted(folder, [reduced])
    assert (found["height"], found["width"]) == ([30], [40])
    np.testing.assert_array_equal(found["flow"][0], expected["flow"][0])
    smaller = predicted(folder, [reduced], max_side=41)[0]
    np.testing.assert_array_equal(smaller["flow"][0], expected["flow"][0])
    with pytest.raises(ValueError, match="point 40,0 lies outside"):
        predicted(folder, [medium], max_side=40, points=((40, 0),))


def test_flow_has_the_scale_of_the_checkpoint_or_the_option(folder: Path) -> None:
    published, own = predicted(folder, [pair(TILE)])[0], predicted(folder, [pair(TILE)], flow_scale=1.0)[0]
    np.testing.assert_allclose(published["flow"][0], 20.0 * own["flow"][0], rtol=1e-6)


def test_bfloat16_model_gives_nearly_the_same_flow(folder: Path) -> None:
    exact, _ = predicted(folder, [pair((50, 70))])
    rough, latents = predicted(folder, [pair((50, 70))], dtype=torch.bfloat16)
    assert latents.dtype == torch.bfloat16
    assert_close(rough["flow"][0], exact["flow"][0], 0.05)


def as_stored(rows: dict[str, list[Any]], at: int) -> dict[str, Any]:
    """Return a row as it is read from a part: frames are PNG files."""
    row = {name: column[at] for name, column in rows.items()}
    files = []
    for frame in row["frames"]:
        Image.fromarray(frame).save(file := io.BytesIO(), "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    return {**row, "frames": files}


@pytest.mark.parametrize("size", [(9, 11), (50, 70)])
def test_flow_is_decoded_from_stored_latents_without_the_video(folder: Path, size: tuple[int, int]) -> None:
    media = [pair(size, 0, 12.48), pair(size, 1)]
    rows, latents = predicted(folder, media, latents=True)
    assert list(rows)[-1] == "frames"
    head = head_for("optical-flow", folder, HeadOptions(array_dtype="float32", points=((3, 2),)))
    units = [head.arrays_from_row({name: as_stored(rows, at)[name] for name in head.stored_columns}) for at in range(2)]
    for unit, medium in zip(units, media, strict=True):
        transformed = head.transform(medium)
        assert list(unit) == list(transformed)
        for name, array in transformed.items():
            np.testing.assert_array_equal(unit[name], array)
            assert unit[name].dtype == array.dtype
    arrays = {name: [unit[name] for unit in units] for name in units[0]}
    inputs = head.collate(arrays)
    decoded = head.rows(head.decode(PerceiverIO.from_pretrained(str(folder)), latents, inputs))
    assert list(decoded["start_seconds"]) == [12.48, None]
    for at in range(2):
        assert_close(decoded["flow"][at], rows["flow"][at].reshape(*size, 2)[2, 3], 1e-5)


def test_frames_are_moved_to_the_device_as_bytes_even_if_read_only(folder: Path) -> None:
    head = head_for("optical-flow", folder, HeadOptions())
    frames = pair((50, 70)).frames
    read_only = np.frombuffer(frames.tobytes(), np.uint8).reshape(frames.shape)  # as arrays from Arrow are
    arrays = {name: [array] * 2 for name, array in head.transform(replace(pair((50, 70)), frames=read_only)).items()}
    inputs = head.collate(arrays)
    assert (inputs["frames"].dtype, tuple(inputs["frames"].shape)) == (torch.uint8, (2, 2, 50, 70, 3))
    assert head.latents_per_unit(inputs) == [6 * 5] * 2


def test_frames_of_different_sizes_are_in_different_micro_batches(folder: Path) -> None:
    head = head_for("optical-flow", folder, HeadOptions())
    sizes = [(9, 11), (9, 11), (11, 9), (9, 12)]
    buckets = [head.bucket({"frames": (2, *size, 3), "index": (1,), "start": (1,)}) for size in sizes]
    assert buckets[0] == buckets[1]
    assert len(set(buckets)) == 3


def test_bytes_per_medium_byte_is_output_over_input(folder: Path) -> None:
    def growth(**options: Any) -> float:
        head = head_for("optical-flow", folder, HeadOptions(**options))
        assert head.unit_bytes == pytest.approx(6 * 1024**2 * head.bytes_per_medium_byte, abs=1)
        return head.bytes_per_medium_byte

    assert growth() == growth(points=((0, 0),)) == 1
    assert growth(array_dtype="float32") == pytest.approx(8 / 6)
    medium = pair((208, 180))
    rows, latents = predicted(folder, [medium], latents=True)
    out = rows["flow"][0].nbytes + latents.nbytes + sum(frame.nbytes for frame in rows["frames"][0])
    assert growth(array_dtype="float32", latents=True) == pytest.approx(out / medium.frames.nbytes, rel=0.15)


@pytest.mark.parametrize("options", [{"logits": True}, {"arrays": True}, {"outputs": ("video",)}, {"frames": (1,)}])
def test_unsupported_option_is_rejected(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} .* is not supported for optical-flow"):
        head_for("optical-flow", folder, HeadOptions(**options))


def test_checkpoint_of_another_class_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [CONV]}))
    with pytest.raises(CheckpointError, match=f"{CONV}; optical-flow needs a {FLOW}"):
        head_for("optical-flow", tmp_path, HeadOptions())


@pytest.mark.parametrize("size", [16, [16], [16, 0], [16, 24, 3], ["16", "24"], [True, 24]])
def test_invalid_train_size_is_rejected(tmp_path: Path, size: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [FLOW], "train_size": size}))
    with pytest.raises(CheckpointError, match=r"config\.json: train_size"):
        FlowInputs.from_folder(tmp_path)


def test_default_tile_is_that_of_the_published_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [FLOW]}))
    assert FlowInputs.from_folder(tmp_path).tile == (368, 496)


def test_fingerprint_changes_with_every_option_that_changes_a_row(folder: Path, tmp_path: Path) -> None:
    def fingerprint_options(at: Path = folder, **options: Any) -> object:
        found = head_for("optical-flow", at, HeadOptions(**options)).fingerprint_options
        assert json.loads(json.dumps(found)) == found
        return found

    assert fingerprint_options() == fingerprint_options(array_dtype="float16")
    assert fingerprint_options() != fingerprint_options(array_dtype="float32")
    assert fingerprint_options() != fingerprint_options(points=((1, 2),))
    assert fingerprint_options(points=((1, 2),)) != fingerprint_options(points=((2, 1),))
    assert fingerprint_options() == fingerprint_options(flow_scale=20.0), "as runs of earlier versions have it"
    assert fingerprint_options() != fingerprint_options(flow_scale=1.0)
    assert fingerprint_options() != fingerprint_options(max_side=640)
    assert fingerprint_options() != fingerprint_options(
        make_checkpoint(FLOW, small(FLOW, train_size=[24, 16]), tmp_path)
    )


def test_pickled_head_is_small(folder: Path) -> None:
    head = head_for("optical-flow", folder, HeadOptions(latents=True, points=((1, 2),)))
    assert pickle.loads(pickle.dumps(head)) == head
    assert len(pickle.dumps(head)) < 10_000
    assert HEADS["optical-flow"] is OpticalFlow


_LOAD_TASK = """
import pickle, sys
import numpy as np
head = pickle.loads(bytes.fromhex(sys.argv[1]))
from pipeline.media import FramePair
head.transform(FramePair(frames=np.zeros((2, 9, 9, 3), np.uint8), frame_index=0, start_seconds=None))
print(sorted({"torch", "transformers", "ray", "pyarrow", "PIL"} & set(sys.modules)))
"""


def test_load_task_does_not_import_torch(folder: Path) -> None:
    head = head_for("optical-flow", folder, HeadOptions(points=((1, 2),)))
    command = [sys.executable, "-c", _LOAD_TASK, pickle.dumps(head).hex()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"

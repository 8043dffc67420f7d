"""Run every task end to end from every input format, on disk and on S3, and compare with transformers.

INPUT holds one file of each format with the same units, so that one run reads all of them. On disk each replica splits
its units between two devices.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import tarfile
import wave
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
import torch
from PIL import Image
from rich.console import Console
from transformers import PerceiverForOpticalFlow, PerceiverModel
from transformers.models.perceiver import modeling_perceiver

from pipeline.heads.clip_inputs import reduce_frame
from pipeline.reference.published_configs import BARE, CONV, FLOW, MASKED_LM, MULTIMODAL, SEQUENCE
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests import reference_outputs
from tests.sample_videos import make_video

UNITS = 6
TABLES = ("jsonl", "csv", "parquet", "arrow", "tar")
TEXTS = [f"{number} of [MASK], größer 🙂 [MASK]" + "." * 7 * number for number in range(UNITS - 2)] + ["[MASK]", "none"]
# Audio of 4 kHz, because transformers encodes it 128 times for each clip.
CLIP = {"num_frames": 16, "audio_samples_per_frame": 160, "samples_per_patch": 16, "output_shape": [1, 16, 16, 16]}


@dataclass(frozen=True)
class Place:
    """A folder on disk or in a bucket, and the devices per replica of runs there."""

    uri: str
    devices: int

    def put(self, files: Mapping[str, bytes]) -> str:
        """Write these files and return the URI of their folder."""
        store = Store(f"{self.uri}/in")
        for key, data in files.items():
            store.put(key, data)
        return store.uri

    def run(self, task: str, checkpoint: Path, source: str = "", name: str = "out", **options: Any) -> list[dict]:
        """Run, assert that nothing is quarantined, and return the rows in order of parts."""
        output = Store(f"{self.uri}/{name}")
        options |= {"task": task, "checkpoint": str(checkpoint), "devices_per_replica": self.devices}
        options = RunOptions(input=source, output=output.uri, **options)
        summary = execute(options, console=Console(file=io.StringIO()))
        tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.keys("predictions/")]
        rows = [row for table in tables for row in table.to_pylist()]
        assert (summary.rows, summary.quarantined) == (len(rows), 0)
        assert len({row["id"] for row in rows}) == len(rows)
        return rows


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path, backend: None) -> Place:
    if request.param == "disk":
        return Place(str(tmp_path), devices=2)
    return Place(request.getfixturevalue("s3").bucket("heads"), devices=1)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def photograph(number: int, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    """uint8 [H, W, 3]: a different part of a photograph for each number."""
    image = skimage.data.astronaut() if number % 2 else skimage.data.chelsea()
    top, left = 7 * number % 200, 11 * number % 300
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def saved_dataset(columns: Mapping[str, list], features: datasets.Features, folder: Path) -> dict[str, bytes]:
    """Return the files that `save_to_disk` writes, below `saved/`."""
    datasets.Dataset.from_dict(dict(columns), features=features).save_to_disk(folder)
    return {f"saved/{path.name}": path.read_bytes() for path in folder.iterdir()}


def archive(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def lines_of(columns: Mapping[str, list]) -> dict[str, bytes]:
    """Return columns of strings as a .jsonl and a .csv file."""
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(columns))
    writer.writeheader()
    writer.writerows(records)
    return {
        "b.jsonl": "".join(json.dumps(record) + "\n" for record in records).encode(),
        "c.csv": table.getvalue().encode(),
    }


def parquet(columns: Mapping[str, list], schema: pa.Schema | None = None) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(dict(columns), schema=schema), file, row_group_size=4)
    return file.getvalue()


def text_files(folder: Path) -> dict[str, bytes]:
    number = list(range(UNITS))
    features = datasets.Features({"text": datasets.Value("string"), "number": datasets.Value("int64")})
    columns = {"text": TEXTS, "number": number}
    return {
        "a.txt": "\n".join(TEXTS).encode(),
        **lines_of(columns),
        "d.parquet": parquet(columns),
        "e.tar": archive({f"{at:03d}.txt": text.encode() for at, text in enumerate(TEXTS)}),
        **saved_dataset(columns, features, folder / "texts"),
    }


def image_files(folder: Path, images: list[np.ndarray]) -> dict[str, bytes]:
    keys = [f"images/{at:03d}.png" for at in range(len(images))]
    data = [png(image) for image in images]
    structs = [{"bytes": each, "path": None} for each in data]
    features = datasets.Features({"image": datasets.Image()})
    return {
        **dict(zip(keys, data, strict=True)),
        **lines_of({"image": keys}),
        "d.parquet": parquet({"image": structs}),
        "e.tar": archive({f"{at:03d}.png": each for at, each in enumerate(data)}),
        **saved_dataset({"image": structs}, features, folder / "images"),
    }


def by_source(rows: list[dict], *kinds: str) -> dict[str, list[dict]]:
    """Return the rows by the extension of their input file, which must be one of `kinds`, in their order."""
    found: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        found[row["id"].partition("#")[0].rpartition(".")[2]].append(row)
    assert sorted(found) == sorted(kinds)
    return dict(found)


def assert_near(ours: Any, theirs: np.ndarray, share: float = 1e-4) -> None:
    """Assert that the greatest difference is at most this share of the range of the reference."""
    ours = np.asarray(ours, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= share * np.ptp(theirs)


def test_fill_mask(place: Place, checkpoints, tmp_path: Path) -> None:
    folder = checkpoints(MASKED_LM, max_position_embeddings=512)
    expected = reference_outputs.masks_filled(folder, TEXTS)
    rows = place.run("fill-mask", folder, place.put(text_files(tmp_path)))
    for found in by_source(rows, "txt", *TABLES).values():
        assert [row["text"] for row in found] == TEXTS
        for row, (tokens, scores) in zip(found, expected, strict=True):
            candidates = [mask["candidates"] for mask in row["masks"]]
            ours = np.array([[one["token_id"] for one in each] for each in candidates]).reshape(-1, 5)
            np.testing.assert_array_equal(ours, tokens)
            values = np.array([[one["score"] for one in each] for each in candidates]).reshape(-1, 5)
            np.testing.assert_allclose(values, scores, rtol=1e-3)


def test_text_classification(place: Place, checkpoints, tmp_path: Path) -> None:
    folder = checkpoints(SEQUENCE, max_position_embeddings=512)
    expected = reference_outputs.text_logits(folder, TEXTS)
    rows = place.run("text-classification", folder, place.put(text_files(tmp_path)), logits=True)
    for found in by_source(rows, "txt", *TABLES).values():
        assert_near([row["logits"] for row in found], expected)
        assert [row["label_id"] for row in found] == expected.argmax(axis=1).tolist()


def test_image_classification(place: Place, checkpoints, tmp_path: Path) -> None:
    folder, images = checkpoints(CONV), [photograph(number) for number in range(UNITS)]
    expected = reference_outputs.image_logits(folder, images)
    rows = place.run("image-classification", folder, place.put(image_files(tmp_path, images)), logits=True)
    for found in by_source(rows, "png", *TABLES).values():
        assert_near([row["logits"] for row in found], expected)


def decoded(data: bytes) -> list[np.ndarray]:
    """Return all frames of a video, decoded by PyAV from the beginning."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def flows(folder: Path, frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return the flow from each frame to the next, by transformers."""
    model = PerceiverForOpticalFlow.from_pretrained(folder).eval()
    pairs = itertools.pairwise(frames)
    return [reference_outputs.flow_in_tiles(model, np.stack(pair), (8, 12)) for pair in pairs]


def assert_flows(rows: list[dict], expected: list[np.ndarray]) -> None:
    for row, flow in zip(rows, expected, strict=True):
        assert_near(np.reshape(row["flow"], (row["height"], row["width"], 2)), flow)


def test_optical_flow_of_videos_and_folders_of_frames(place: Place, checkpoints, tmp_path: Path) -> None:
    folder = checkpoints(FLOW)
    video = make_video(tmp_path / "m.mp4", seconds=(UNITS + 1) / 25, size=(20, 14)).read_bytes()
    frames = [photograph(number, (14, 20)) for number in range(UNITS + 1)]
    files = {"m.mp4": video} | {f"frames/{at:03d}.png": png(frame) for at, frame in enumerate(frames)}
    rows = place.run("optical-flow", folder, place.put(files), array_dtype="float32")
    found = by_source(rows, "mp4", "png")
    assert_flows(found["mp4"], flows(folder, decoded(video)))
    assert_flows(found["png"], flows(folder, frames))
    assert [row["frame_index"] for row in found["mp4"]] == list(range(UNITS))
    np.testing.assert_allclose([row["start_seconds"] for row in found["mp4"]], np.arange(UNITS) / 25, atol=1e-3)
    assert {row["start_seconds"] for row in found["png"]} == {None}


def test_optical_flow_of_tables_with_two_columns(place: Place, checkpoints, tmp_path: Path) -> None:
    folder, frames = checkpoints(FLOW), [photograph(number, (14, 20)) for number in range(UNITS + 1)]
    data = [png(frame) for frame in frames]
    keys = [f"frames/{at:03d}.png" for at in range(UNITS + 1)]
    structs = [{"bytes": each, "path": None} for each in data]
    columns = {"left": structs[:-1], "right": structs[1:]}
    features = datasets.Features({"left": datasets.Image(), "right": datasets.Image()})
    files = {
        **{f"pairs/{key}": each for key, each in zip(keys, data, strict=True)},
        **{f"pairs/{name}": each for name, each in lines_of({"left": keys[:-1], "right": keys[1:]}).items()},
        "pairs/d.parquet": parquet(columns),
        **{f"containers/{name}": each for name, each in saved_dataset(columns, features, tmp_path / "pairs").items()},
        "containers/e.tar": archive(
            {f"{at:03d}.{side}": data[at + (side == "right")] for at in range(UNITS) for side in ("left", "right")}
        ),
    }
    source, expected = place.put(files), flows(folder, frames)
    rows = []
    for name in ("pairs/?.*", "containers"):
        options = {"column": "left,right", "array_dtype": "float32", "name": name[:5]}
        rows += place.run("optical-flow", folder, f"{source}/{name}", **options)
    for found in by_source(rows, *TABLES).values():
        assert_flows(found, expected)


@pytest.fixture(scope="module")
def clips(checkpoints, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, np.ndarray]]:
    """A video of `UNITS` clips, and the outputs of transformers for them in 128 passes."""
    path = tmp_path_factory.mktemp("clips") / "m.mkv"
    video = make_video(path, seconds=UNITS * 0.64, size=(32, 24), audio_rate=4_000).read_bytes()
    frames = np.stack([reduce_frame(frame, height=16, width=16) for frame in decoded(video)])
    with av.open(io.BytesIO(video)) as container:
        audio_frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    samples = np.concatenate(audio_frames)[: UNITS * 2560].astype(np.float32) / 2**15
    frames, samples = frames.reshape(UNITS, 16, 16, 16, 3), samples.reshape(UNITS, -1)
    return video, reference_outputs.clips_in_passes(checkpoints(MULTIMODAL, **CLIP), frames, samples)


def test_multimodal_autoencoding(place: Place, checkpoints, clips: tuple[bytes, dict[str, np.ndarray]]) -> None:
    video, expected = clips
    folder, source = checkpoints(MULTIMODAL, **CLIP), place.put({"m.mkv": video})
    rows = place.run("multimodal-autoencoding", folder, source, arrays=True, logits=True)
    assert_near([row["logits"] for row in rows], expected["label"])
    assert_near([row["frames"] for row in rows], expected["image"].clip(0, 1).reshape(UNITS, -1))
    assert_near([row["samples"] for row in rows], expected["audio"].clip(-1, 1))
    for row in rows:
        with wave.open(io.BytesIO(row["audio"]["bytes"])) as audio:
            assert audio.getframerate() == 25 * 160
    assert [row["clip_index"] for row in rows] == list(range(UNITS))
    assert {(row["has_audio"], row["padded_frames"]) for row in rows} == {(True, 0)}


def test_feature_extraction_of_texts_and_images(place: Place, checkpoints, tmp_path: Path) -> None:
    language, vision = checkpoints(MASKED_LM, max_position_embeddings=512), checkpoints(CONV)
    options = {"latents": True, "array_dtype": "float32"}
    rows = place.run("feature-extraction", language, place.put(text_files(tmp_path)), "texts", **options)
    expected = reference_outputs.text_latents(language, TEXTS)
    for found in by_source(rows, "txt", *TABLES).values():
        assert_near([row["embedding"] for row in found], expected.mean(axis=1))
        assert_near([np.reshape(row["latents"], (row["num_latents"], row["d_latents"])) for row in found], expected)
    images = [photograph(number) for number in range(UNITS)]
    source = Place(f"{place.uri}/vision", place.devices).put(image_files(tmp_path / "vision", images))
    rows = place.run("feature-extraction", vision, source, "images", **options)
    expected = reference_outputs.image_latents(vision, images)
    for found in by_source(rows, "png", *TABLES).values():
        assert_near([row["embedding"] for row in found], expected.mean(axis=1))


@pytest.mark.slow
def test_feature_extraction_of_videos(place: Place, checkpoints, tmp_path: Path) -> None:
    flow, multimodal = checkpoints(FLOW), checkpoints(MULTIMODAL, **CLIP)
    video = make_video(tmp_path / "m.mp4", seconds=1.28, size=(24, 16), audio_rate=48_000).read_bytes()
    source = place.put({"m.mp4": video})
    frames = decoded(video)
    model = getattr(modeling_perceiver, FLOW).from_pretrained(flow).eval()
    with torch.no_grad():
        pairs = [torch.from_numpy(reference_outputs.patches(np.stack(pair))) for pair in itertools.pairwise(frames)]
        expected = np.stack([model(pair, output_hidden_states=True).hidden_states[-1][0].numpy() for pair in pairs])
    rows = place.run("feature-extraction", flow, source, "flow")
    assert_near([row["embedding"] for row in rows], expected.mean(axis=1))
    rows = place.run("feature-extraction", multimodal, source, "clips", clip_stride=0.128)
    assert [row["id"] for row in rows][:3] == ["m.mp4#0.000", "m.mp4#0.128", "m.mp4#0.256"]
    assert len(rows) == 6, "clips overlap, so the last complete one ends with the video"
    again = place.run("multimodal-autoencoding", multimodal, source, "whole", clip_stride=0.128, latents=True)
    means = [np.reshape(row["latents"], (row["num_latents"], -1)).mean(axis=0) for row in again]
    assert_near([row["embedding"] for row in rows], np.array(means, np.float64), 1e-3)


def test_feature_extraction_of_arrays_by_the_bare_model(place: Place, checkpoints, tmp_path: Path) -> None:
    folder = checkpoints(BARE)
    arrays = [np.random.default_rng(at).normal(size=(5 + at % 3, 24)).astype(np.float32) for at in range(UNITS)]
    lists = [array.tolist() for array in arrays]
    features = datasets.Features({"inputs": [[datasets.Value("float32")]]})

    def npy(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    files = {
        "b.jsonl": "".join(json.dumps({"inputs": each}) + "\n" for each in lists).encode(),
        "d.parquet": parquet({"inputs": lists}),
        "e.tar": archive({f"{at:03d}.npy": npy(array) for at, array in enumerate(arrays)}),
        **saved_dataset({"inputs": lists}, features, tmp_path / "arrays"),
    }
    rows = place.run("feature-extraction", folder, place.put(files))
    model = PerceiverModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = [model(inputs=torch.from_numpy(array)[None]).last_hidden_state[0] for array in arrays]
    expected = np.stack([state.mean(dim=0).numpy() for state in states])
    for found in by_source(rows, "jsonl", "parquet", "tar", "arrow").values():
        assert_near([row["embedding"] for row in found], expected)

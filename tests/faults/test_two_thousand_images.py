"""Two thousand images, twenty of them damaged, on disk and in S3: undisturbed, and with killed drivers and actors.

Run by name: `pytest -m slow tests/faults/test_two_thousand_images.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import pytest
import torch
from PIL import Image, ImageOps

from pipeline.reference import transformers_model
from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.records.receipts import read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.parts import parse_part_key
from pipeline.storage import Store

pytestmark = pytest.mark.slow

COUNT, DAMAGED, SHARD = 2000, 20, 25
MODES = ("RGB", "RGB", "RGB", "L", "RGBA", "P", "LA", "CMYK", "I;16")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(FOURIER, small(FOURIER, image_size=64, num_labels=12), tmp_path_factory.mktemp("model"), 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG and PNG files cut out of real photographs, of mixed sizes and modes, in a few folders."""
    import skimage.data

    photographs = [
        Image.fromarray(take()) for take in (skimage.data.astronaut, skimage.data.chelsea, skimage.data.coffee)
    ]
    root, chance = tmp_path_factory.mktemp("images"), random.Random(7)
    damaged = set(chance.sample(range(COUNT), DAMAGED))
    for number in range(COUNT):
        path = root / f"{number % 7}" / f"photo {number:04d}.{'jpg' if number % 3 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        _cut_out(chance, photographs, path)
        if number in damaged:
            _damage(chance, path)
    return root


@pytest.fixture(scope="module")
def expected(folder: Path, model_folder: Path) -> dict[str, np.ndarray]:
    """Scores of every good file by transformers' model and its PIL image processor."""
    from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

    processor, pixels = PerceiverImageProcessorPil.from_pretrained(model_folder), {}
    for path in sorted(folder.rglob("*.*")):
        try:
            image = _rgb(Image.open(path))
        except (OSError, SyntaxError):
            continue
        pixels[str(path.relative_to(folder))] = processor(image, return_tensors="pt").pixel_values
    model, names, scores = transformers_model.load(model_folder), list(pixels), {}
    for batch in (names[begin : begin + 60] for begin in range(0, len(names), 60)):
        with torch.inference_mode():
            logits = model(inputs=torch.cat([pixels[name] for name in batch])).logits
        scores |= dict(zip(batch, torch.softmax(logits, -1).numpy(), strict=True))
    assert len(scores) == COUNT - DAMAGED
    return scores


@pytest.fixture(params=["disk", "s3"])
def run(
    request: pytest.FixtureRequest, folder: Path, model_folder: Path, tmp_path: Path
) -> tuple[list[str], Store, Callable[[], set[str]]]:
    """The command, OUTPUT, and what tells which inputs have been read so far (in S3, where a proxy sees the reads)."""
    keys_read: Callable[[], set[str]] = set
    source, output = str(folder), str(tmp_path / "out")
    if request.param == "s3":
        s3, s3_proxy = request.getfixturevalue("s3"), request.getfixturevalue("s3_proxy")
        source, output = s3.bucket("photographs"), s3.bucket("labels") + "/run one"
        for path in folder.rglob("*.*"):
            key = str(path.relative_to(folder))
            s3.client.put_object(Bucket=source.removeprefix("s3://"), Key=key, Body=path.read_bytes())
        prefix = "/" + source.removeprefix("s3://") + "/"

        def keys_read() -> set[str]:
            paths = [
                urllib.parse.unquote(path.partition("?")[0]) for method, path, *_ in s3_proxy.seen if method == "GET"
            ]
            return {path.removeprefix(prefix) for path in paths if path.startswith(prefix) and path != prefix}

    command = [sys.executable, "-m", "jobs.run", "image-classification", source, output]
    command += [
        "--checkpoint",
        str(model_folder),
        "--replicas",
        "2",
        "--shard-size",
        str(SHARD),
        "--top-k",
        "12",
        "--no-report",
    ]
    return command, Store(output), keys_read


def test_every_image_is_a_row_or_in_quarantine(run, expected) -> None:  # type: ignore[no-untyped-def]
    command, output, _ = run
    subprocess.run(command, check=True, timeout=600)
    _check(output, expected)


def test_driver_killed_three_times(run, expected) -> None:  # type: ignore[no-untyped-def]
    command, output, keys_read = run
    chance, kills = random.Random(), 0
    while kills < 3:
        done = _parts(output)
        with subprocess.Popen(command, start_new_session=True) as driver:
            _wait(lambda done=done: len(_parts(output)) > len(done), seconds=120)
            time.sleep(chance.uniform(0, 3))
            assert driver.poll() is None, "the run ended before it could be killed: plan more images"
            driver.kill()
        kills += 1
        print(f"kill {kills}: {len(_parts(output))} of {COUNT // SHARD} parts")
    time.sleep(5)  # attempts of the killed driver that are still at work may commit: they count as before the start
    done, read_before = _parts(output), keys_read()
    subprocess.run(command, check=True, timeout=600)
    _check(output, expected)
    receipts = read_receipts(output, read_run(output).run)
    last = max(receipts.values(), key=lambda receipt: receipt.received_at).driver
    scheduled = {shard for shard, receipt in receipts.items() if receipt.driver == last}
    assert scheduled == set(range(COUNT // SHARD)) - done
    if read_before:
        keys = sorted(expected.keys() | _quarantined(output), key=str.encode)
        read_again = keys_read() - read_before
        assert not read_again & {key for shard in done for key in keys[shard * SHARD : (shard + 1) * SHARD]}


def test_actor_killed_in_the_middle(run, expected) -> None:  # type: ignore[no-untyped-def]
    command, output, _ = run
    with subprocess.Popen(command) as driver:
        _wait(lambda: len(_parts(output)) > 10, seconds=120)
        actors = [
            p for p in psutil.Process(driver.pid).children(recursive=True) if "MapWorker" in " ".join(p.cmdline())
        ]
        assert len(actors) == 2
        os.kill(actors[0].pid, signal.SIGKILL)
        assert driver.wait(timeout=600) == 0
    _check(output, expected)


def _check(output: Store, expected: dict[str, np.ndarray]) -> None:
    rows = _rows(output, "predictions")
    assert len(rows) == COUNT - DAMAGED == len({row["id"] for row in rows})
    assert {row["id"] for row in rows} == expected.keys()
    quarantined = _quarantined(output)
    assert len(quarantined) == DAMAGED
    assert not quarantined & expected.keys()
    for row in rows:
        scores = expected[row["id"]]
        ours = np.zeros(len(scores))
        for best in row["topk"]:
            ours[best["label_id"]] = best["score"]
        np.testing.assert_allclose(ours, scores, atol=1e-4)
        assert row["label_id"] == int(scores.argmax())
    manifest = json.loads(output.read("_run/manifest.json"))
    assert (manifest["rows"], manifest["quarantined"]) == (COUNT - DAMAGED, DAMAGED)


def _rows(output: Store, kind: str) -> list[dict[str, Any]]:
    """All rows of all parts, read through the store and by DuckDB's own reader of Parquet."""
    import io

    import pyarrow.parquet as pq

    tables = [pq.read_table(io.BytesIO(output.read(key))) for key in output.keys(f"{kind}/")]
    return [row for table in tables for row in duckdb.from_arrow(table).to_arrow_table().to_pylist()]


def _quarantined(output: Store) -> set[str]:
    return {row["id"] for row in _rows(output, "quarantine")}


def _parts(output: Store) -> set[int]:
    return {found[1] for key in output.keys("predictions/") if (found := parse_part_key(key)) is not None}


def _wait(until: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.2)


def _cut_out(chance: random.Random, photographs: list[Image.Image], path: Path) -> None:
    photograph, mode = chance.choice(photographs), chance.choice(MODES)
    width, height = chance.randint(20, 200), chance.randint(20, 200)
    left, top = (chance.randint(0, room) for room in (photograph.width - width, photograph.height - height))
    image = photograph.crop((left, top, left + width, top + height))
    if path.suffix == ".jpg":
        image.convert(mode if mode in ("L", "CMYK") else "RGB").save(path, quality=90)
    elif mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(path)
    else:
        image.convert(mode if mode in ("L", "P") else "RGB").save(path)


def _damage(chance: random.Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(
        chance.choice([content[: len(content) // 2], b"", b"<html><body>404</body></html>", os.urandom(300)])
    )


def _rgb(image: Image.Image) -> Image.Image:
    """As transformers' pipelines read it, but with 16 bits scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")

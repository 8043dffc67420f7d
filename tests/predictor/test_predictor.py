"""`Predictor` on lists: the numbers of a run for every kind of item, and a bad item costs only itself.

Rounding depends on the batch size and the number of threads. Runs in the test's process have two threads.
"""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipeline.media import FramePair
from pipeline.predictor import item_reader
from pipeline.predictor.predictor import Predictor
from pipeline.reference.published_configs import BARE, FLOW, MASKED_LM, MULTIMODAL, SEQUENCE
from pipeline.runtime.errors import UsageError
from pipeline.sinks.parts import Quarantined
from tests import harmful_units
from tests.predictor.conftest import CLIP
from tests.sample_videos import make_video

TEXTS = ["A short text.", "größer 🙂 " * 30, "", "[MASK] here"]


def own_columns(row: dict) -> dict:
    """Return the columns of a Parquet row without those that identify its unit."""
    return {name: value for name, value in row.items() if name not in ("id", "uri", "version", "segment")}


def assert_equal(results: list[Any], rows: list[dict]) -> None:
    """Assert that results are Parquet rows bit by bit, with their columns in the same order."""
    for result, row in zip(results, rows, strict=True):
        expected = own_columns(row)
        assert list(result) == list(expected)
        for name, value in expected.items():
            found = result[name].reshape(-1).tolist() if isinstance(result[name], np.ndarray) else result[name]
            assert found == value, name


def crops(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Return parts of a photograph, each moved by two pixels from the one before."""
    image = skimage.data.astronaut()
    return [np.ascontiguousarray(image[2 * at : 2 * at + size[0], : size[1]]) for at in range(count)]


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_images_of_any_form_have_the_rows_of_a_run(checkpoint: Path, image_folder: Path, run_rows) -> None:
    rows, lost = run_rows("image-classification", image_folder, checkpoint, batch_size=4, shard_size=60, top_k=3)
    paths = sorted(image_folder.iterdir())
    predictor = Predictor("image-classification", checkpoint=checkpoint, batch_size=4, threads=2, top_k=3)
    results = predictor([*map(str, paths)])
    assert_equal([result for result in results if isinstance(result, dict)], rows)
    reasons = [(result.error, result.message) for result in results if isinstance(result, Quarantined)]
    assert reasons == [(unit["error"], unit["message"]) for unit in lost]
    assert [result.id for result in results if isinstance(result, Quarantined)] == [
        str(image_folder / unit["id"]) for unit in lost
    ]
    assert predictor([path.read_bytes() for path in paths if path.name != "x"])[0] == results[0]
    intact = [path for path, result in zip(paths, results, strict=True) if isinstance(result, dict)]
    images = [Image.open(path) for path in intact]
    assert_equal(predictor(images), rows)
    assert_equal(predictor([np.asarray(image.convert("RGB")) for image in images]), rows)
    assert_equal(predictor([{"bytes": path.read_bytes(), "path": None} for path in intact]), rows)
    assert_equal(predictor([*intact[:2], images[2], np.asarray(images[3].convert("RGB"))]), rows[:4])


def test_gray_transparent_and_rotated_images_are_read_as_files_are(checkpoint: Path) -> None:
    predictor = Predictor(
        "image-classification", checkpoint=checkpoint, transparency="white", logits=True, batch_size=1
    )
    rgba = np.dstack([skimage.data.cat()[:40, :50], np.full((40, 50), 99, np.uint8)])
    gray = skimage.data.camera()[:40, :50]
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba[..., :3]).save(file, "JPEG", exif=exif)
    forms = [[png(rgba), rgba], [png(gray), gray, gray[..., None], deep], [file.getvalue(), Image.open(file)]]
    for same in forms:
        first, *others = [result["logits"].tolist() for result in predictor(same)]
        assert all(other == first for other in others)


def test_texts_have_the_rows_of_a_run(checkpoints, tmp_path: Path, run_rows) -> None:
    for model_class, task in ((SEQUENCE, "text-classification"), (MASKED_LM, "fill-mask")):
        model = checkpoints(model_class, max_position_embeddings=128)
        (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
        rows, _ = run_rows(task, tmp_path / "texts.txt", model, batch_size=2)
        predictor = Predictor(task, checkpoint=model, batch_size=2, threads=2)
        assert_equal(predictor(TEXTS), rows)
        assert_equal(predictor([text.encode() for text in TEXTS]), rows)
        flagged, number = predictor([b"\xff", 5])
        assert flagged["replaced"]
        assert number.message == "the item must be a str or UTF-8 bytes, got int"


def test_frame_pairs_have_the_rows_of_a_run(checkpoints, tmp_path: Path, run_rows) -> None:
    model, frames = checkpoints(FLOW), crops(4, (14, 40))
    (tmp_path / "frames").mkdir()
    paths = [tmp_path / f"frames/{at}.png" for at in range(4)]
    for path, frame in zip(paths, frames, strict=True):
        path.write_bytes(png(frame))
    rows, _ = run_rows("optical-flow", tmp_path / "frames", model, batch_size=1)
    predictor = Predictor("optical-flow", checkpoint=model, batch_size=1, threads=2)
    results = predictor([*pairwise(paths)])
    for result, row in zip(results, rows, strict=True):
        assert result["flow"].shape == (14, 40, 2)
        assert result["flow"].reshape(-1).tolist() == row["flow"]
    first = results[0]["flow"]
    pair = FramePair(frames=np.stack(frames[:2]), frame_index=7, start_seconds=1.5)
    mixed = [frames[0], Image.fromarray(frames[1])]
    same = predictor([pair, tuple(frames[:2]), mixed, np.stack(frames[:2]), (paths[0], frames[1])])
    assert all((result["flow"] == first).all() for result in same)
    assert (same[0]["frame_index"], same[0]["start_seconds"]) == (7, 1.5)
    good, different, missing = predictor([(frames[0], frames[1]), (frames[0], frames[1][:9]), (frames[0], "none.png")])
    assert (good["flow"] == first).all()
    assert "must have one size, got 14 by 40 and 9 by 40" in different.message
    assert missing.error == "Missing"


def test_a_video_gives_a_list_with_the_rows_of_a_run(checkpoints, tmp_path: Path, run_rows) -> None:
    flow, clips = checkpoints(FLOW), checkpoints(MULTIMODAL, **CLIP)
    (tmp_path / "in").mkdir()
    video = make_video(tmp_path / "in" / "m.mp4", seconds=1.4, size=(32, 24), audio_rate=48_000)
    (tmp_path / "in/z.mp4").write_bytes(video.read_bytes()[:3000])
    for task, model, options in (("optical-flow", flow, {"fps": 5}), ("multimodal-autoencoding", clips, {})):
        options |= {"batch_size": 3}
        rows, lost = run_rows(task, tmp_path / "in", model, **options)
        predictor = Predictor(task, checkpoint=model, threads=2, **options)
        found, damaged, from_bytes = predictor([video, str(tmp_path / "in/z.mp4"), video.read_bytes()])
        assert len(found) == len(rows) > 1
        assert_equal(found, rows)
        assert_equal(from_bytes, rows)
        assert_equal(list(predictor.video(video)), rows)
        assert [unit.message for unit in damaged] == [unit["message"] for unit in lost]
        assert predictor(["none.mp4"])[0][0].error == "Missing"


def test_clips_can_be_arrays(checkpoints) -> None:
    predictor = Predictor("multimodal-autoencoding", checkpoint=checkpoints(MULTIMODAL, **CLIP), outputs="video")
    frames = np.stack(crops(16, (24, 32)))
    samples = np.sin(np.arange(2560) / 10, dtype=np.float32)
    audible, silent, short, clipped = predictor(
        [(frames, samples), (frames, None), (frames[:9], samples), (frames, samples[:7])]
    )
    assert (audible["has_audio"], silent["has_audio"]) == (True, False)
    assert audible["video"]["bytes"] != silent["video"]["bytes"]
    assert "must be uint8 [16, H, W, 3]: 16 RGB frames at 25 per second" in short.message
    assert "must be float32 [2560] in [-1, 1], at 4,000 per second" in clipped.message


def test_the_bare_model_takes_arrays(checkpoints, tmp_path: Path) -> None:
    predictor = Predictor("feature-extraction", checkpoint=checkpoints(BARE), latents=True, array_dtype="float32")
    width = predictor([np.zeros((3, 1))])[0].message.partition("d_model (")[2].partition(")")[0]
    row, wrong = predictor([np.ones((5, int(width)), np.float32), "text"])
    assert row["latents"].ndim == 2
    np.testing.assert_allclose(row["latents"].mean(axis=0), row["embedding"], rtol=1e-5)
    assert wrong.error == "BadMedium"


def test_bad_items_cost_only_themselves(checkpoint: Path, tmp_path: Path) -> None:
    image = crops(1, (40, 50))[0]
    closed = Image.open(io.BytesIO(png(image)))
    closed.fp.close()
    items = [image, b"junk", None, 7, "none.jpg", "https://user:secret@host/a.png", tmp_path, closed]
    items += [image / 255, image.transpose(2, 0, 1), np.zeros((0, 4, 3), np.uint8), image]
    first, *bad, last = Predictor("image-classification", checkpoint=checkpoint, batch_size=1)(items)
    assert first == last
    assert all(isinstance(result, Quarantined) for result in bad)
    messages = [result.message for result in bad]
    assert "got null" in messages[1]
    assert "got int" in messages[2]
    assert not any("secret" in repr(result) for result in bad)
    assert "float64 [40, 50, 3]; it must be uint8 [H, W, 3]" in messages[7]
    assert "uint8 [3, 40, 50]; it must be" in messages[8]


def test_an_image_that_crashes_its_decoder_or_fills_the_memory_costs_only_itself(
    checkpoint: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [path for path in sorted(image_folder.iterdir()) if path.name[:4] not in ("0005", "0017", "0018")][:20]
    for name in ("crash.png", "hog.png"):
        (image_folder / name).write_bytes(paths[1].read_bytes())
    monkeypatch.setattr(item_reader, "ItemSource", harmful_units.HarmfulItems)
    predictor = Predictor("image-classification", checkpoint=checkpoint, unit_memory=1)
    results = predictor([*paths[:10], image_folder / "crash.png", *paths[10:], image_folder / "hog.png"])
    lost = [result for result in results if isinstance(result, Quarantined)]
    assert [(Path(unit.id).name, unit.error, unit.attempts) for unit in lost] == [
        ("crash.png", "Crashed", 2),
        ("hog.png", "MemoryError", 2),
    ]
    assert len(results) - len(lost) == 20


def test_wrong_use_is_refused_in_words(checkpoint: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"topk": 3}, r"topk is not an option of Predictor \(did you mean top_k\?\)"),
        ({"top_k": 0}, r"top_k \(0\) must be at least 1"),
        ({"fps": 5}, r"fps \(5\) is for videos; the task reads images"),
        ({"points": ((1, 2),)}, "points .* is not supported for image-classification"),
        ({"threads": 0}, r"threads \(0\) must be at least 1"),
        ({"device": "cuda"}, r"device \(cuda\) is not available in this process"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            Predictor("image-classification", checkpoint=checkpoint, **options)
    with pytest.raises(UsageError, match="task 'classify' must be one of"):
        Predictor("classify", checkpoint=checkpoint)
    predictor = Predictor("image-classification", checkpoint=checkpoint)
    with pytest.raises(TypeError, match=r"got a single str: write predictor\(\[item\]\)"):
        predictor("a.jpg")
    with pytest.raises(UsageError, match="needs a task on videos"):
        next(predictor.video("a.mp4"))
    assert predictor([]) == []


def test_a_pickle_is_small_and_its_copy_predicts(checkpoint: Path) -> None:
    predictor = Predictor("image-classification", checkpoint=checkpoint, batch_size=1)
    image = crops(1, (40, 50))
    pickled = pickle.dumps(predictor)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)([image]) == predictor([image])


def test_predicting_needs_no_ray(checkpoint: Path) -> None:
    code = f"""
import sys
from pipeline.predictor.predictor import Predictor
import numpy as np
print(Predictor("image-classification", checkpoint={str(checkpoint)!r})([np.zeros((9, 9, 3), np.uint8)]))
assert not {{"ray", "transformers.models.perceiver.modeling_perceiver"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

"""`Predictor` on batches of columns, as Ray Data gives them to `map_batches`, and in a pipeline of Ray Data.

Rounding depends on the batch size, which is 1 where numbers are compared bit by bit.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skimage.data
from PIL import Image

from pipeline.predictor.predictor import Predictor
from pipeline.reference.published_configs import FLOW, MULTIMODAL, SEQUENCE
from pipeline.runtime.errors import UsageError
from tests.predictor.conftest import CLIP
from tests.sample_videos import make_video

IMAGE = skimage.data.chelsea()[:40, :50]
LABEL = pa.struct([("label_id", pa.int32()), ("label", pa.string()), ("score", pa.float32())])


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor("image-classification", checkpoint=checkpoint, top_k=2, batch_size=1)


FORMATS: dict[str, Any] = {
    "numpy": lambda columns: {name: np.array(values, object) for name, values in columns.items()},
    "pandas": pd.DataFrame,
    "pyarrow": pa.table,
}


def as_table(batch: Any) -> pa.Table:
    """Return a batch of any format as Arrow, with the types that Ray Data sees."""
    if isinstance(batch, pd.DataFrame):
        return pa.Table.from_pandas(batch, preserve_index=False)
    return batch if isinstance(batch, pa.Table) else pa.table(batch)


@pytest.mark.parametrize("form", FORMATS)
def test_a_batch_keeps_its_columns_and_a_damaged_image_costs_its_row(predictor: Predictor, form: str) -> None:
    batch = {"name": ["a", "b", "c"], "bytes": [png(IMAGE), b"junk", png(IMAGE)], "label": [7, 8, 9]}
    found = predictor(FORMATS[form](batch))
    assert isinstance(found, type(FORMATS[form](batch)))
    table = as_table(found)
    own, added = ["name", "bytes", "input_label"], ["frames", "label_id", "label", "score", "topk", "error", "message"]
    assert table.column_names == own + added
    first, damaged, last = table.to_pylist()
    assert [first["input_label"], damaged["name"]] == [7, "b"]
    assert {name: first[name] for name in added} == {name: last[name] for name in added}
    assert {**first, "error": None, "message": None} == first
    assert [name for name in added if damaged[name] is not None] == ["error", "message"]
    assert damaged["error"] == "BadMedium"
    (expected,) = predictor([IMAGE])
    assert {name: first[name] for name in expected} == expected


@pytest.mark.parametrize("form", FORMATS)
def test_types_are_the_same_in_batches_without_any_prediction(predictor: Predictor, form: str) -> None:
    schemas = [
        as_table(predictor(FORMATS[form]({"bytes": content}))).schema.remove_metadata()
        for content in ([png(IMAGE)], [b"junk"])
    ]
    assert schemas[0] == schemas[1]
    assert schemas[0].field("topk").type == pa.list_(LABEL)
    empty = predictor(pa.table({"bytes": pa.array([], pa.binary())}))
    assert empty.schema == predictor(pa.table({"bytes": pa.array([png(IMAGE)])})).schema
    assert predictor({}) == {}


def test_the_column_is_found_by_its_name_or_named(predictor: Predictor, tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(IMAGE))
    row = predictor([IMAGE])[0]["topk"]
    for batch in ({"image": IMAGE[None]}, {"path": [str(path)]}, {"path": ["no.png"], "bytes": [png(IMAGE)]}):
        assert as_table({"topk": predictor(batch)["topk"]}).to_pylist()[0]["topk"] == row
    with pytest.raises(UsageError, match="image and bytes can both hold the images: name the column with column="):
        predictor({"image": [IMAGE], "bytes": [png(IMAGE)]})
    with pytest.raises(UsageError, match=r"no column image or bytes or path holds the images.*the batch has photo, x"):
        predictor({"photo": [IMAGE], "x": [1]})
    named = Predictor("image-classification", checkpoint=checkpoint, top_k=2, batch_size=1, column="photo")
    assert named({"photo": [IMAGE], "bytes": [b""]})["topk"].to_pylist()[0] == row
    with pytest.raises(UsageError, match="column 'photo' not found; the batch has image"):
        named({"image": [IMAGE]})


def test_texts_and_null_texts(checkpoints) -> None:
    predictor = Predictor("text-classification", checkpoint=checkpoints(SEQUENCE, max_position_embeddings=64))
    found = predictor(pa.table({"text": ["one", None, "two", ""]}))
    assert found["label"].null_count == 0
    assert found["score"][1] == found["score"][3], "a null is an empty text"


def test_blank_texts_are_quarantined_on_demand(checkpoints) -> None:
    model = checkpoints(SEQUENCE, max_position_embeddings=64)
    predictor = Predictor("text-classification", checkpoint=model, blank_text="quarantine")
    found = predictor(pa.table({"text": ["one", None, " \n", ""]}))
    assert found["label"].null_count == 3
    first, *blank = found["message"].to_pylist()
    assert first is None
    assert {message.partition(":")[0] for message in blank} == {"the text is blank"}


def test_image_pairs_are_in_two_columns_and_videos_give_a_row_per_pair(checkpoints, tmp_path: Path) -> None:
    model = checkpoints(FLOW)
    left, right = IMAGE[:14, :20], IMAGE[1:15, 2:22]
    pairs = Predictor("optical-flow", checkpoint=model, column="left,right", batch_size=1)
    (expected,) = pairs([(left, right)])
    batch = {"left": [png(left), b"junk"], "right": [png(right), png(right)]}
    for form, make in FORMATS.items():
        table = as_table(pairs(make(batch)))
        assert table["flow"].type == pa.list_(pa.float16()), form
        assert table["flow"][0].as_py() == expected["flow"].reshape(-1).tolist()
        assert table["flow"].null_count == 1
    alone = pairs({"left": [left], "right": [right]})
    np.testing.assert_array_equal(np.asarray(alone["flow"][0]), expected["flow"].reshape(-1))
    video = make_video(tmp_path / "m.mp4", seconds=0.2, size=(20, 14))
    videos = Predictor("optical-flow", checkpoint=model)
    names = ["a", "damaged", "b"]
    contents = [video.read_bytes(), b"junk", video.read_bytes()]
    for make in FORMATS.values():
        table = as_table(videos(make({"name": names, "bytes": contents})))
        assert table["name"].to_pylist() == ["a"] * 4 + ["damaged"] + ["b"] * 4
        assert table["frame_index"].to_pylist() == [0, 1, 2, 3, None, 0, 1, 2, 3]
        assert table["flow"].null_count == 1


def test_clips_are_videos_or_frames_and_samples(checkpoints, tmp_path: Path) -> None:
    model = checkpoints(MULTIMODAL, **CLIP)
    video = make_video(tmp_path / "m.mp4", seconds=1.2, size=(32, 24), audio_rate=48_000)
    found = Predictor("multimodal-autoencoding", checkpoint=model)(pa.table({"path": [str(video), "none.mp4"]}))
    assert found["clip_index"].to_pylist() == [0, 1, None]
    assert found["error"].to_pylist() == [None, None, "Missing"]
    assert found["video"].type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = Predictor("multimodal-autoencoding", checkpoint=model, column=("frames", "samples"))
    batch = {"frames": np.zeros((2, 16, 24, 32, 3), np.uint8), "samples": np.zeros((2, 2560), np.float32)}
    assert arrays(batch)["has_audio"].to_pylist() == [True, True]


def test_ray_data_keeps_the_types_of_flow_with_and_without_null_rows(checkpoints) -> None:
    from ray.data.block import BlockAccessor

    predictor = Predictor("optical-flow", checkpoint=checkpoints(FLOW), column="left,right")
    pair = IMAGE[:14, :20], IMAGE[1:15, 2:22]
    lefts = {"predicted": [pair[0]], "damaged": [b"junk"], "both": [pair[0], b"junk"]}
    blocks = [
        BlockAccessor.batch_to_block(predictor({"left": left, "right": [pair[1]] * len(left)})).select(
            ["flow", "error"]
        )
        for left in lefts.values()
    ]
    assert {block.schema for block in blocks} == {pa.schema([("flow", pa.list_(pa.float16())), ("error", pa.string())])}
    assert [block["flow"].null_count for block in blocks] == [0, 1, 1]


def test_predictors_run_in_a_pipeline_of_ray_data(checkpoint: Path, image_folder: Path, cluster: None) -> None:
    import ray.data

    kwargs = {"checkpoint": str(checkpoint), "batch_size": 4, "logits": True}
    images = ray.data.read_binary_files(str(image_folder), include_paths=True)
    found = images.map_batches(
        Predictor,
        fn_constructor_args=("image-classification",),
        fn_constructor_kwargs=kwargs,
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=16,
    )
    rows = {Path(row["path"]): row for row in found.take_all()}
    predictor = Predictor("image-classification", **kwargs)
    paths = sorted(image_folder.iterdir())
    assert sorted(rows) == paths
    for path, result in zip(paths, predictor(paths), strict=True):
        if isinstance(result, dict):
            np.testing.assert_allclose(rows[path]["logits"], result["logits"], rtol=1e-5, atol=1e-6)
            assert rows[path]["error"] is None
        else:
            assert (rows[path]["label"], rows[path]["message"]) == (None, result.message)

"""Inputs made to run code, to read other files or to reach a server: nothing of that happens, and it is said."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.reference.shapes import BARE, SEQUENCE
from pipeline.runtime import UsageError
from pipeline.storage import AccessError
from tests.faults.conftest import Outcome
from tests.faults.test_changed_inputs import hostile_parquet
from tests.runtime.test_every_head import parquet, photograph, png
from tests.sources.test_video_faults import listener
from tests.sources.test_webdataset import Payload, tar

__all__ = ["listener"]

Run = Callable[..., Outcome]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return file.getvalue()


def test_pickles_in_an_archive_are_not_run(run: Run, checkpoints, tmp_path: Path) -> None:
    proof, model, array = tmp_path / "proof", checkpoints(BARE), np.ones((3, 24), np.float32)
    pickled = pickle.dumps(Payload(proof))
    members = [("0.npy", npy(array)), ("0.pickle", pickled), ("0.pt", pickled)]
    members += [("1.npy", npy(np.array([[Payload(proof)]], dtype=object))), ("2.npy", pickled), ("3.npy", npy(array))]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tar").write_bytes(tar(members))
    found = run("feature-extraction", model, tmp_path / "in")
    assert list(found.rows) == ["a.tar#0", "a.tar#3"]
    assert {name: "pickle" in unit["message"] for name, unit in found.quarantined.items()} == {
        "a.tar#1": True,
        "a.tar#2": True,
    }
    for column in ("pickle", "pt"):
        for asked in ({"column": column}, {"keep_columns": column}, {"id_column": column}):
            with pytest.raises((UsageError, AccessError), match="is a pickle, which runs code when it is read"):
                run("feature-extraction", model, tmp_path / "in", input_format="webdataset", **asked)
    assert not proof.exists()


def test_a_table_of_pickles_ends_the_run_and_is_not_read(run: Run, checkpoints, tmp_path: Path) -> None:
    import ray.data  # noqa: F401  which registers the type that unpickles, as workers do

    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(parquet({"text": ["good"]}))
    (tmp_path / "in/b.parquet").write_bytes(hostile_parquet(Payload(tmp_path / "proof")))
    with pytest.raises(AccessError, match=r"b\.parquet: column 'p' is of the type ray\.data\.arrow_pickled_object"):
        run("text-classification", checkpoints(SEQUENCE), tmp_path / "in")
    assert not (tmp_path / "proof").exists()
    assert not (tmp_path / "out/predictions").exists()


def test_paths_in_tables_lead_to_no_other_file_and_no_server(
    run: Run, checkpoint: Path, tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    address, heard = listener
    picture = png(photograph(1))
    (tmp_path / "secret.png").write_bytes(picture)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes(picture)
    (folder / "vector.png").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://{address}/a.png"/></svg>'
    )
    Image.fromarray(photograph(1)).save(folder / "script.png", "EPS")
    paths = [
        "good.png",
        "vector.png",
        "script.png",
        "../secret.png",
        "./a/../../secret.png",
        str(tmp_path / "secret.png"),
        f"file://{tmp_path}/secret.png",
        f"http://{address}/a.png",
        f"simplecache::http://{address}/a.png",
        f"s3://bucket/{address}.png",
        "secret.png\0.png",
        "",
    ]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([["image"], *([path] for path in paths if "\0" not in path)])
    (folder / "b.csv").write_text(table.getvalue())
    (folder / "c.jsonl").write_text("".join(json.dumps({"image": path}) + "\n" for path in paths))
    (folder / "d.parquet").write_bytes(parquet({"image": [{"bytes": None, "path": path} for path in paths]}))
    found = run("image-classification", checkpoint, folder)
    assert heard == []
    assert set(found.rows) == {"good.png", "b.csv#7", "c.jsonl#0", "d.parquet#0"}
    bad = [unit for name, unit in found.quarantined.items() if name.startswith("d.parquet#")]
    words = ["an SVG file is no image", "a PostScript (EPS) file is no image", *["is no path of a file beside"] * 2]
    words += ["is an absolute path", *["is a URI: only files in INPUT are read"] * 2, "nothing there", "is a URI"]
    words += ["is no path of a file beside"] * 2
    for unit, said in zip(bad, words, strict=True):
        assert said in unit["message"]
    assert [len(found.reasons(key)) for key in ("b.csv", "c.jsonl", "d.parquet")] == [10, 11, 11]

"""Inputs made to run code, read other files or contact a server: none of it happens, and each is reported."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.checkpoints import CheckpointError
from pipeline.reference.published_configs import BARE, FLOW, SEQUENCE
from pipeline.runtime.driver.estimate import estimate
from pipeline.runtime.errors import UsageError
from pipeline.runtime.job_file import read_job
from pipeline.runtime.options import RunOptions
from pipeline.storage import AccessError
from tests.faults.conftest import Outcome
from tests.faults.test_changed_inputs import hostile_parquet
from tests.runtime.test_every_task import parquet, photograph, png
from tests.sample_videos import make_video
from tests.sources.image_files import encoded
from tests.sources.test_video_faults import SCRIPTS, listener
from tests.sources.test_webdataset_source import Payload, tar

__all__ = ["listener"]

Run = Callable[..., Outcome]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return file.getvalue()


def test_pickles_in_an_archive_are_not_loaded(run: Run, checkpoints, tmp_path: Path) -> None:
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
        for options in ({"column": column}, {"keep_columns": column}, {"id_column": column}):
            with pytest.raises((UsageError, AccessError), match="is a pickle, which runs code when it is read"):
                run("feature-extraction", model, tmp_path / "in", input_format="webdataset", **options)
    assert not proof.exists()


def test_table_with_pickles_is_refused_unread(run: Run, checkpoints, tmp_path: Path) -> None:
    import ray.data  # noqa: F401  which registers the type that unpickles, as workers do

    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(parquet({"text": ["good"]}))
    (tmp_path / "in/b.parquet").write_bytes(hostile_parquet(Payload(tmp_path / "proof")))
    with pytest.raises(AccessError, match=r"b\.parquet: column 'p' has the type ray\.data\.arrow_pickled_object"):
        run("text-classification", checkpoints(SEQUENCE), tmp_path / "in")
    assert not (tmp_path / "proof").exists()
    assert not (tmp_path / "out/predictions").exists()


def test_paths_in_tables_cannot_leave_the_input_or_contact_a_server(
    run: Run, checkpoint: Path, tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    address, requests = listener
    image = png(photograph(1))
    (tmp_path / "secret.png").write_bytes(image)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes(image)
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
    assert requests == []
    assert set(found.rows) == {"good.png", "b.csv#7", "c.jsonl#0", "d.parquet#0"}
    bad = [unit for name, unit in found.quarantined.items() if name.startswith("d.parquet#")]
    messages = [
        "an SVG file is not an image",
        "a PostScript (EPS) file is not an image",
        *["is not a path of a file in the folder"] * 2,
    ]
    messages += ["is an absolute path", *["is a URI: only files in INPUT are read"] * 4]
    messages += ["is not a path of a file in the folder"] * 2
    for unit, expected in zip(bad, messages, strict=True):
        assert expected in unit["message"]
    refused = [unit["uri"] for unit in bad if "only files in INPUT are read" in unit["message"]]
    assert refused == paths[5:10]
    assert [len(found.reasons(key)) for key in ("b.csv", "c.jsonl", "d.parquet")] == [10, 11, 11]


def test_scripts_inside_tables_and_archives_are_not_run(
    run: Run, checkpoint: Path, tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    address, requests = listener
    scripts = {
        "eps": encoded(Image.fromarray(photograph(1)), "EPS"),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://{address}/a.png"/></svg>'.encode(),
        **{name: script.format(address=address, folder=tmp_path).encode() for name, script in SCRIPTS.items()},
    }
    good = png(photograph(1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(parquet({"image": [good, *scripts.values()]}))
    members = [(f"{number}.png", data) for number, data in enumerate([good, *scripts.values()])]
    (tmp_path / "in/b.tar").write_bytes(tar(members))
    found = run("image-classification", checkpoint, tmp_path / "in")
    assert requests == []
    assert found.rows.keys() == {"a.parquet#0", "b.tar#0"}
    assert len(found.quarantined) == 2 * len(scripts)
    assert all("is not an image of a supported format" in unit["message"] for unit in found.quarantined.values())


@pytest.mark.parametrize("named", ["in/*", *(pytest.param(one, marks=pytest.mark.slow) for one in ("in/0.m3u8", "in"))])
def test_planning_opens_nothing_that_a_file_names(
    checkpoints, backend: None, tmp_path: Path, listener: tuple[str, list[str]], named: str
) -> None:
    """`perceiver plan` reads a sample, after the files were opened for the plan."""
    address, requests = listener
    extensions = (".m3u8", ".sdp", ".ffconcat", ".mp4", ".ts")
    make_video(tmp_path / "secret.ts")
    (tmp_path / "in").mkdir()
    for number, (script, extension) in enumerate(zip(SCRIPTS.values(), extensions, strict=True)):
        (tmp_path / f"in/{number}{extension}").write_text(script.format(address=address, folder=tmp_path))
    places = {"input": str(tmp_path / named), "output": str(tmp_path / "out"), "checkpoint": str(checkpoints(FLOW))}
    known = estimate(RunOptions(task="optical-flow", input_format="video", fps=5.0, **places))
    assert requests == []
    units = {"in/*": 5, "in/0.m3u8": 1, "in": 2}[named]
    assert known.plan.units == known.sample.units == known.sample.quarantined == units


def test_code_and_pickles_of_a_checkpoint_are_not_run(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    proof, model = tmp_path / "proof", tmp_path / "model"
    shutil.copytree(checkpoint, model)
    config = json.loads((model / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "modeling_own.Own", "AutoConfig": "modeling_own.Own"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "modeling_own.py").write_text(f"open({str(proof)!r}, 'w')\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(photograph(1)))
    assert list(run("image-classification", model, tmp_path / "in").rows) == ["a.png"]
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(proof)))
    with pytest.raises(CheckpointError, match="cannot be read, or contains more than tensors"):
        run("image-classification", model, tmp_path / "in", output=str(tmp_path / "other"))
    assert not proof.exists()
    assert not list((tmp_path / "other").glob("predictions/*"))


@pytest.mark.parametrize("input_format", ["auto", pytest.param("dataset", marks=pytest.mark.slow)])
def test_code_and_pickles_of_a_dataset_are_not_run(run: Run, checkpoints, tmp_path: Path, input_format: str) -> None:
    proof, folder = tmp_path / "proof", tmp_path / "in"
    datasets.Dataset.from_dict({"text": ["good"]}).save_to_disk(folder)
    (folder / "in.py").write_text(f"open({str(proof)!r}, 'w')\n")  # as a loading script is called
    model = checkpoints(SEQUENCE)
    assert len(run("text-classification", model, folder, input_format=input_format).rows) == 1
    with pa.OSFile(str(folder / "data-00001-of-00002.arrow"), "wb") as file:
        table = pq.read_table(io.BytesIO(hostile_parquet(Payload(proof))))
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(AccessError, match=r"arrow: column 'p' has the type ray\.data\.arrow_pickled_object"):
        run("text-classification", model, folder, input_format=input_format)
    assert not proof.exists()


def test_exponentially_growing_job_file_is_refused(tmp_path: Path) -> None:
    """Nine levels, each of nine of the one before it: a billion words."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    job = tmp_path / "job.yaml"
    job.write_text(f"task: image-classification\na0: &a0 lol\n{levels}input: *a9\n")
    with pytest.raises(UsageError) as refused:
        read_job(str(job))
    assert "input ([[[...], [...]" in str(refused.value)
    assert "must be text" in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert len(str(refused.value)) < 2000

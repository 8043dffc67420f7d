"""Inputs deleted or changed after they were planned: their units are quarantined, all others are predicted."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.reference.published_configs import FLOW, SEQUENCE
from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from tests.faults.conftest import Outcome
from tests.runtime.test_every_task import parquet, photograph, png
from tests.sample_videos import make_video
from tests.sources.test_webdataset_source import Payload, tar

Run = Callable[..., Outcome]

KINDS = ("arrow", "csv", "jsonl", "jsonl.gz", "parquet", "tar", "txt")


def text_file(kind: str, texts: list[str], folder: Path) -> bytes:
    """Return a file of that kind that contains two texts."""
    lines = {
        "csv": "text\n" + "".join(f"{text}\n" for text in texts),
        "jsonl": "".join(f'{{"text": "{text}"}}\n' for text in texts),
        "txt": "\n".join(texts),
    }
    if kind == "parquet":
        return parquet({"text": texts})
    if kind == "tar":
        return tar([(f"{number}.txt", text.encode()) for number, text in enumerate(texts)])
    if kind == "arrow":
        path = folder / "stream"
        with pa.ipc.new_stream(path, pa.schema([("text", pa.string())])) as writer:
            writer.write_batch(pa.record_batch({"text": texts}))
        return path.read_bytes()
    data = lines[kind.removesuffix(".gz")].encode()
    return gzip.compress(data) if kind.endswith(".gz") else data


def hostile_parquet(payload: Payload) -> bytes:
    """Return a Parquet file with a column that Ray, once imported, unpickles when it is read."""
    metadata = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    evil = pa.field("p", pa.large_binary(), metadata=metadata)
    columns = [pa.array(["a", "b"]), pa.array([pickle.dumps(payload)] * 2, pa.large_binary())]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema([pa.field("text", pa.string()), evil])), sink)
    return sink.getvalue().to_pybytes()


def place(kind: str, name: str) -> str:
    return f"{name}/data-0.arrow" if kind == "arrow" else f"{name}.{kind}"


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)


def plan(task: str, checkpoint: Path, folder: Path, **options: object) -> None:
    """Freeze the plan of a run into `out` next to the folder, as `perceiver plan` does."""
    places = {"input": str(folder), "output": str(folder.parent / "out"), "checkpoint": str(checkpoint)}
    with prepare_run(RunOptions(task=task, **places, **options)):
        pass


def test_deleted_and_changed_text_files_are_quarantined_alone(run: Run, checkpoints, tmp_path: Path) -> None:
    folder, proof, model = tmp_path / "in", tmp_path / "proof", checkpoints(SEQUENCE)
    names = ("changed", "gone", "kept")
    for kind in KINDS:
        put(folder, {place(kind, name): text_file(kind, ["one", "two"], tmp_path) for name in names})
    plan("text-classification", model, folder, shard_size=3)
    for kind in KINDS:
        (folder / place(kind, "gone")).unlink()
        put(folder, {place(kind, "changed"): text_file(kind, ["one", "six"], tmp_path)})
    put(folder, {"changed.parquet": hostile_parquet(Payload(proof))})
    found = run("text-classification", model, folder, shard_size=3)
    assert not proof.exists()
    assert (found.summary.changed, found.summary.segments) == (len(KINDS), 1)
    for kind in KINDS:
        changed, gone, kept = (place(kind, name) for name in names)
        assert len(found.predicted(kept)) == 2, kind
        assert found.predicted(changed) == found.predicted(gone) == []
        known = 2 if kind in ("arrow", "parquet") else 1  # units known from the plan: rows, or one part of a file
        for key, expected in ((changed, "changed: its version is"), (gone, "was deleted after it was planned")):
            reasons = found.reasons(key)
            assert len(reasons) == known, kind
            assert all(str(folder / key) in reason and expected in reason for reason in reasons.values()), kind
    assert {unit["error"] for unit in found.quarantined.values()} == {"Missing", "Changed"}
    assert {unit["attempts"] for unit in found.quarantined.values()} == {1}


def test_hostile_parquet_runs_code_if_it_is_read_without_care(tmp_path: Path, cluster: None) -> None:
    """Proves that the test above can fail."""
    import ray.data  # noqa: F401  which registers the type

    (tmp_path / "a.parquet").write_bytes(hostile_parquet(Payload(tmp_path / "proof")))
    assert not (tmp_path / "proof").exists()
    with pytest.raises(FileExistsError, match="proof"):  # the second row's payload finds what the first one's has made
        pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (tmp_path / "proof").exists()


def test_deleted_and_changed_videos_and_frames_quarantine_their_pairs(run: Run, checkpoints, tmp_path: Path) -> None:
    folder, model = tmp_path / "in", checkpoints(FLOW)
    video = make_video(tmp_path / "a.mp4", 0.2, (24, 16)).read_bytes()
    put(folder, {f"{name}.mp4": video for name in ("changed", "gone", "kept")})
    put(folder, {f"frames/{number}.png": png(photograph(number, (16, 24))) for number in range(8)})
    plan("optical-flow", model, folder, shard_size=3)
    put(folder, {"changed.mp4": make_video(tmp_path / "b.mp4", 0.2, (26, 16)).read_bytes()})
    (folder / "gone.mp4").unlink()
    put(folder, {"frames/2.png": png(np.zeros((16, 24, 3), np.uint8))})
    (folder / "frames/7.png").unlink()
    found = run("optical-flow", model, folder, shard_size=3)
    assert [row["frame_index"] for row in found.predicted("kept.mp4")] == [0, 1, 2, 3]
    assert [row["id"] for row in found.predicted("frames/0.png")] == ["frames/0.png"]
    expected = {
        "changed.mp4": "changed: its version is",
        "gone.mp4": "was deleted after it was planned",
        "frames/1.png": "frames/2.png changed: its version is",
        "frames/2.png": "frames/2.png changed: its version is",
        "frames/6.png": "frames/7.png",
    }
    for key, message in expected.items():
        assert found.predicted(key) == [], key
        assert all(message in reason for reason in found.reasons(key).values()), key
        assert found.reasons(key), key
    assert {key for key in found.rows if key.startswith("frames/")} == {f"frames/{at}.png" for at in (0, 3, 4, 5)}

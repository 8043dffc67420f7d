"""Videos of 1080p of one and ten minutes: spread over the replicas, with correct times, in constant memory.

The long and the large ones are slow: some twenty minutes on two cores.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from pipeline.reference.published_configs import FLOW, MULTIMODAL, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.storage import Store
from tests.sample_videos import make_video, number_of

SIZE, RATE, MINUTE = (1920, 1080), 25, 60
CLIP = {"num_frames": 16, "audio_samples_per_frame": 1920, "samples_per_patch": 16, "output_shape": [1, 16, 32, 32]}
MOST_BYTES = 2e9  # of one process

# A separate driver process, so that its processes are distinct from those of the tests.
_DRIVER = """
import json, sys
import ray
from pipeline.runtime.options import RunOptions
from pipeline.runtime.driver.run import execute
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=400 << 20, log_to_driver=False)
print(execute(RunOptions(**json.loads(sys.argv[1]))).rows, flush=True)
"""


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of numbered frames with a tone."""
    folder = tmp_path_factory.mktemp("minute")
    fast = {"preset": "ultrafast", "crf": "30", "x264-params": "log-level=none"}
    return make_video(folder / "m.mp4", seconds=MINUTE, size=SIZE, rate=RATE, gop=50, audio_rate=48_000, options=fast)


def repeated(path: Path, times: int, target: Path) -> Path:
    """Repeat the video by copying its packets, except audio that would overlap."""
    with av.open(str(path)) as first, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in first.streams}
        for turn in range(times):
            with av.open(str(path)) as source:
                for packet in source.demux():
                    if packet.dts is None or packet.pts * packet.time_base < 0:
                        continue
                    if (packet.pts + packet.duration) * packet.time_base > MINUTE:
                        continue
                    shift = round(turn * MINUTE / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
    return target


class Watch:
    """Measure the peak private memory of each child process: its proportional set size without shared memory."""

    def __init__(self) -> None:
        self.most: dict[str, int] = defaultdict(int)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                    name = f"{' '.join(process.cmdline())[:40]} {process.pid}"
                except (OSError, psutil.Error):
                    continue  # it ended meanwhile
                kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
                private = 1024 * (kilobytes["Pss"] - kilobytes.get("Pss_Shmem", 0))
                self.most[name] = max(self.most[name], private)


def run(output: Path, **changes: Any) -> tuple[list[dict], dict[str, int]]:
    """Run in a new process; return the rows and the peak private memory of each of its processes."""
    options = {"output": str(output), "replicas": 2, "dtype": "bfloat16", **changes}
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", _DRIVER, json.dumps(options)], check=True, capture_output=True)
    store = Store(str(output))
    assert list(store.keys("quarantine/")) == []
    columns = changes.pop("columns", None)
    tables = [pq.read_table(io.BytesIO(store.read(key)), columns=columns) for key in store.keys("predictions/")]
    return [row for table in tables for row in table.to_pylist()], watch.most


def assert_small(most: dict[str, int], label: str) -> None:
    """Assert that no process exceeded the limit, and print the peaks for `pytest -s`."""
    ranked = sorted(most.items(), key=lambda item: -item[1])
    print(f"{label}:", *(f"{size / 1e6:,.0f} MB {name}" for name, size in ranked[:5]), sep="\n  ")
    assert ranked[0][1] < MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [1, 10])
def test_flow_and_clips_of_a_long_video(minute: Path, tmp_path: Path, minutes: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    video = repeated(minute, minutes, folder / "video.mp4") if minutes > 1 else folder / "video.mp4"
    if minutes == 1:
        video.write_bytes(minute.read_bytes())
    seconds = minutes * MINUTE
    flow = make_checkpoint(FLOW, small(FLOW, train_size=[368, 496]), tmp_path / "flow")
    started = time.monotonic()
    rows, most = run(
        tmp_path / "flows",
        task="optical-flow",
        input=str(folder),
        checkpoint=str(flow),
        fps=0.1,
        points="5,5 1900,1000",
    )
    assert [row["start_seconds"] for row in rows] == pytest.approx([10 * k for k in range(seconds // 10 - 1)], abs=0.04)
    assert [row["frame_index"] for row in rows] == list(range(seconds // 10 - 1))
    assert {(row["height"], row["width"]) for row in rows} == {(1080, 1920)}
    assert_small(most, f"flow of {minutes} min, {time.monotonic() - started:.0f} s")

    model = make_checkpoint(MULTIMODAL, small(MULTIMODAL, **CLIP), tmp_path / "multimodal")
    started = time.monotonic()
    changes = {"task": "multimodal-autoencoding", "input": str(folder), "checkpoint": str(model), "clip_stride": 10}
    rows, most = run(tmp_path / "clips", **changes)
    starts = [10 * k for k in range(seconds // 10)]
    assert [row["start_seconds"] for row in rows] == pytest.approx(starts, abs=0.04)
    assert [row["end_seconds"] for row in rows] == pytest.approx([start + 0.64 for start in starts], abs=0.04)
    assert {(row["has_audio"], row["padded_frames"]) for row in rows} == {(True, 0)}
    assert_small(most, f"clips of {minutes} min, {time.monotonic() - started:.0f} s")


@pytest.mark.slow
def test_dense_flow_of_1080p_and_small_frames_is_read_by_every_reader(tmp_path: Path) -> None:
    import datasets
    import duckdb
    import pandas
    import polars

    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/large.mp4", seconds=0.08, size=SIZE)
    make_video(tmp_path / "in/small.mp4", seconds=0.08, size=(200, 150))
    flow = make_checkpoint(FLOW, small(FLOW, train_size=[368, 496]), tmp_path / "flow")
    changes = {"task": "optical-flow", "input": str(tmp_path / "in"), "checkpoint": str(flow), "replicas": 1}
    rows, most = run(tmp_path / "out", **changes)
    assert_small(most, "dense flow")
    assert [(row["height"], row["width"]) for row in rows] == [(1080, 1920), (150, 200)]
    values = [np.array(row["flow"], np.float16).reshape(row["height"], row["width"], 2) for row in rows]
    parts = f"{tmp_path}/out/predictions/*.parquet"
    query = f"select id, height, width, flow from '{parts}' order by id"
    found: dict[str, list[tuple]] = {
        "duckdb": duckdb.sql(query).fetchall(),
        "pandas": [
            (row.id, row.height, row.width, row.flow)
            for row in pandas.read_parquet(tmp_path / "out/predictions").sort_values("id").itertuples()
        ],
        "polars": list(polars.read_parquet(parts).sort("id").select("id", "height", "width", "flow").iter_rows()),
        "datasets": [
            (row["id"], row["height"], row["width"], row["flow"])
            for row in datasets.load_dataset("parquet", data_files=parts, split="train", cache_dir=str(tmp_path / "c"))
        ],
    }
    for reader, table in found.items():
        assert [row[0] for row in table] == [row["id"] for row in rows], reader
        for (_, height, width, elements), expected in zip(table, values, strict=True):
            read = np.asarray(elements, np.float16).reshape(height, width, 2)
            np.testing.assert_array_equal(read, expected, err_msg=reader)


@pytest.mark.slow
def test_reconstructions_are_readable_with_the_quality_of_the_arrays(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    video = make_video(tmp_path / "in/m.mp4", seconds=1.28, size=(64, 64), audio_rate=48_000)
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [number_of(frame) for frame in frames] == list(range(32))
    model = make_checkpoint(MULTIMODAL, small(MULTIMODAL, **CLIP), tmp_path / "multimodal")
    changes = {"task": "multimodal-autoencoding", "checkpoint": str(model), "arrays": True, "dtype": "float32"}
    rows, _ = run(tmp_path / "out", input=str(tmp_path / "in"), replicas=1, **changes)
    from pipeline.heads.clip_inputs import reduce_frame

    read = np.stack([reduce_frame(frame, height=32, width=32) for frame in frames]).reshape(2, -1) / 255
    for row, original in zip(rows, read, strict=True):
        error = np.mean((np.array(row["frames"]) - original) ** 2)
        assert row["video_psnr_db"] == pytest.approx(-10 * np.log10(error), abs=1e-3)
        with av.open(io.BytesIO(row["video"]["bytes"])) as video:
            shown = list(video.decode(video=0))
            assert (len(shown), video.streams.video[0].average_rate) == (16, Fraction(25))
            assert (shown[0].width, shown[0].height) == (32, 32)
        with av.open(io.BytesIO(row["audio"]["bytes"])) as audio:
            samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in audio.decode(audio=0)])
            assert (audio.streams.audio[0].rate, samples.shape) == (48_000, (30_720,))
        np.testing.assert_allclose(samples / 2**15, row["samples"], atol=1 / 2**15)

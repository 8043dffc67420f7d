"""OUTPUT deleted during a run and reused by another: the old run fails and leaves nothing in the new OUTPUT."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.runtime.driver.run import execute
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.storage import Store


def reuse_output(output: Store) -> None:
    """Wait for a part, delete OUTPUT until it is gone, and create it again for another run of the same command."""
    deadline = time.monotonic() + 60
    while not any(output.keys("predictions/")):
        assert time.monotonic() < deadline, "no part appeared"
        time.sleep(0.01)
    values = json.loads(output.read(RUN_FILE))
    while Path(output.uri).exists():
        shutil.rmtree(output.uri, ignore_errors=True)
    output.put(RUN_FILE, json.dumps(values | {"run": "bbbb0000"}).encode())


def test_reused_output_holds_only_the_new_run(
    tmp_path: Path, checkpoint: Path, write_images: Callable[..., None], backend: None
) -> None:
    write_images(tmp_path / "in", range(40), damaged=(3, 21))
    output = Store(str(tmp_path / "out"))
    places = {"input": str(tmp_path / "in"), "output": output.uri, "checkpoint": str(checkpoint)}
    options = RunOptions(task="image-classification", shard_size=2, **places)
    other_run = threading.Thread(target=reuse_output, args=(output,))
    other_run.start()
    # Either the write of a shard fails first, or the load of one whose plan is gone.
    with pytest.raises(
        (RunFailed, OutputLost), match=r"no longer the OUTPUT of run|no file found when reading .*/plan/"
    ):
        execute(options, console=Console(file=io.StringIO()))
    other_run.join()
    assert read_run(output).run == "bbbb0000"
    assert "_run/manifest.json" not in output.keys("_run/")
    summary = execute(options, console=Console(file=io.StringIO()))
    assert (summary.run, summary.resumed, summary.rows, summary.quarantined) == ("bbbb0000", 0, 38, 2)
    assert list_parts(output, "bbbb0000").foreign == []
    parts = sorted(Path(output.uri, "predictions").glob("*.parquet"))
    rows = [name for part in parts for name in pq.read_table(part)["id"].to_pylist()]
    assert len(rows) == len(set(rows)) == 38
    assert all(key.startswith("quarantine/part-bbbb0000-") for key in output.keys("quarantine/"))

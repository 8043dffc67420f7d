"""OUTPUT deleted under a run and used again by another: the old one ends, and leaves nothing in the new one's."""

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

from pipeline.runtime import RunFailed, RunOptions
from pipeline.runtime.driver.run import execute
from pipeline.runtime.records.committed import list_parts
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.ownership import RUN_FILE, OutputLost
from pipeline.storage import Store


def use_again(output: Store) -> None:
    """Once there is a part: OUTPUT deleted as often as it takes, and then another run's, of the same command."""
    deadline = time.monotonic() + 60
    while not any(output.keys("predictions/")):
        assert time.monotonic() < deadline, "no part came"
        time.sleep(0.01)
    values = json.loads(output.read(RUN_FILE))
    while Path(output.uri).exists():
        shutil.rmtree(output.uri, ignore_errors=True)
    output.put(RUN_FILE, json.dumps(values | {"run": "bbbb0000"}).encode())


def test_output_that_is_deleted_under_a_run_and_used_again_holds_the_new_run_only(
    tmp_path: Path, checkpoint: Path, write_images: Callable[..., None], cluster: None
) -> None:
    write_images(tmp_path / "in", range(40), damaged=(3, 21))
    output = Store(str(tmp_path / "out"))
    given = {"input": str(tmp_path / "in"), "output": output.uri, "checkpoint": str(checkpoint)}
    options = RunOptions(task="image-classification", shard_size=2, **given)
    somebody = threading.Thread(target=use_again, args=(output,))
    somebody.start()
    # Whoever notices first says so: the write of a shard, or the load of one whose plan is gone.
    with pytest.raises(
        (RunFailed, OutputLost), match=r"no longer the OUTPUT of run|nothing there when reading .*/plan/"
    ):
        execute(options, console=Console(file=io.StringIO()))
    somebody.join()
    assert read_run(output).run == "bbbb0000"
    assert "_run/manifest.json" not in output.keys("_run/")
    summary = execute(options, console=Console(file=io.StringIO()))
    assert (summary.run, summary.resumed, summary.rows, summary.quarantined) == ("bbbb0000", 0, 38, 2)
    assert list_parts(output, "bbbb0000").foreign == []
    parts = sorted(Path(output.uri, "predictions").glob("*.parquet"))
    rows = [name for part in parts for name in pq.read_table(part)["id"].to_pylist()]
    assert len(rows) == len(set(rows)) == 38
    assert all(key.startswith("quarantine/part-bbbb0000-") for key in output.keys("quarantine/"))

"""Exported reconstructions are the stored files, and play."""

from __future__ import annotations

from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from pipeline.export.export import export
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from tests import example_runs


@pytest.mark.parametrize(("to", "column"), [("mp4", "video"), ("wav", "audio")])
def test_media_are_the_stored_files_and_play(to: str, column: str, clip_run: Path, tmp_path: Path) -> None:
    exported = export(open_run(clip_run), str(tmp_path / to), to)
    rows = [row for part in (clip_run / "predictions").iterdir() for row in pq.read_table(part).to_pylist()]
    assert exported.written == len(rows) == 2
    for row in rows:
        path = tmp_path / to / (row["id"].replace("#", "/") + f".{to}")
        assert path.read_bytes() == row[column]["bytes"]
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0) if to == "mp4" else container.decode(audio=0))
        assert len(frames) == 16 if to == "mp4" else sum(frame.samples for frame in frames) == 2560


def test_rows_without_a_medium_are_counted(clip_run: Path, tmp_path: Path) -> None:
    def without_the_first(row: dict) -> dict:
        return row | ({"audio": None} if row["clip_index"] == 0 else {})

    output = example_runs.copied_with_rows(clip_run, tmp_path / "out", without_the_first)
    exported = export(open_run(output), str(tmp_path / "wav"), "wav")
    assert (exported.written, exported.notes["rows without audio, left out"]) == (1, 1)


def test_other_tasks_have_no_media(image_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no video: its task is image-classification"):
        export(open_run(image_run), str(tmp_path / "dest"), "mp4")

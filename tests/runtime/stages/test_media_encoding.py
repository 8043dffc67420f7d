"""Media that cannot be encoded quarantine their units, whether the encoder raises or crashes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cloudpickle import register_pickle_by_value

from pipeline.runtime.records.quarantine import quarantine_record, quarantine_table
from pipeline.runtime.stages import media_encoding
from pipeline.runtime.stages.media_encoding import encode_directly, encode_in_sandbox
from pipeline.runtime.stages.output_table import output_table
from pipeline.runtime.stages.shard_format import pack
from pipeline.runtime.stages.write import Writer, write
from pipeline.sandbox import Crashed, Died
from pipeline.sinks.media import MEDIA_ENCODERS
from pipeline.sinks.parts import part_key, read_footer
from pipeline.storage import Store

register_pickle_by_value(sys.modules[__name__])

COLUMNS = {"video": "mp4", "audio": "wav", "frames": ["png"]}
KILL, RAISE = 77, 88  # first values of media


def medium(kind: str, first: int = 1) -> np.ndarray:
    """A small medium whose first value is `first`; of a kind, the shape is always the same."""
    shape, dtype = {"mp4": ((2, 16, 16, 3), np.uint8), "png": ((4, 4, 3), np.uint8), "wav": ((40,), np.float32)}[kind]
    array = np.zeros(shape, dtype)
    array.flat[0] = first
    return array


def shard(videos: Sequence[np.ndarray], audio: Sequence[np.ndarray], frames: Sequence[list[np.ndarray]]) -> pa.Table:
    """A packed shard of rows of `COLUMNS`; one unit was quarantined before."""
    names = pa.array([f"id{number}" for number in range(len(videos))], pa.large_string())
    units = pa.table({"id": names, "uri": names, "version": names, "segment": pa.array([0] * len(videos), pa.int32())})
    rows = output_table({"video": videos, "audio": audio, "frames": frames}, COLUMNS, len(videos))
    for name in COLUMNS:
        units = units.append_column(name, rows[name])
    before = quarantine_table([quarantine_record("early", "uri", "load", ValueError("cut"))])
    scalars = {"shard": 3, "segment": 0, "plan": "0f", "fatal": "", "seconds_load": 0.0, "seconds_predict": 0.0}
    return pack(units, before, scalars)


def written(folder: Path, row: pa.Table, **how: bool | int) -> tuple[pa.Table, list[tuple[str, str, str, str, int]]]:
    """The rows of the shard's part and its quarantined units, which footer and receipt count alike."""
    writer = Writer(output=Store(str(folder)), run="abcd", columns=COLUMNS)
    writer.output.put_if_absent("_run/run.json", b'{"run": "abcd"}')
    receipt = write(row, writer=writer, **how).to_pylist()[0]
    table = pq.read_table(io.BytesIO(writer.output.read(part_key("abcd", 3))))
    footer = read_footer(writer.output, part_key("abcd", 3))
    assert receipt["fatal"] == ""
    assert (receipt["rows"], receipt["quarantined"]) == (footer.rows, len(footer.quarantined))
    assert footer.rows == table.num_rows
    return table, [(unit.id, unit.stage, unit.error, unit.message, unit.attempts) for unit in footer.quarantined]


def test_units_whose_media_cannot_be_encoded_are_quarantined(tmp_path):
    videos, audio = [medium("mp4") for _ in range(5)], [medium("wav") for _ in range(5)]
    frames = [[medium("png"), medium("png", 2)] for _ in range(5)]
    videos[1] = np.zeros((0, 16, 16, 3), np.uint8)
    audio[2] = np.zeros((2, 20), np.float32)
    frames[4][1] = np.zeros((0, 4, 3), np.uint8)
    audio[4] = audio[2]
    table, failed = written(tmp_path, shard(videos, audio, frames))
    assert table["id"].to_pylist() == ["id0", "id3"]
    assert [unit[:3] for unit in failed] == [
        ("early", "load", "ValueError"),
        ("id1", "write", "ValueError"),
        ("id2", "write", "ValueError"),
        ("id4", "write", "ValueError"),
    ]
    messages = [unit[3] for unit in failed]
    assert messages[1] == "video must be non-empty uint8 [F, H, W, 3], not uint8 [0, 16, 16, 3]"
    assert messages[2] == messages[3] == "audio must be float32 [S], not float32 [2, 20]", "the first reason counts"
    for row in table.to_pylist():
        with av.open(io.BytesIO(row["video"]["bytes"])) as video:
            assert sum(1 for _ in video.decode(video=0)) == 2
        assert row["frames"][1]["bytes"] == MEDIA_ENCODERS["png"](medium("png", 2))


def test_shard_of_no_or_only_bad_rows_is_written(tmp_path):
    nothing = np.zeros((0, 4, 4, 3), np.uint8)
    table, failed = written(tmp_path / "bad", shard([nothing], [medium("wav")], [[]]))
    assert (table.num_rows, [unit[0] for unit in failed]) == (0, ["early", "id0"])
    assert table.schema.names[-3:] == ["video", "audio", "frames"]
    table, failed = written(tmp_path / "none", shard([], [], []))
    assert (table.num_rows, [unit[0] for unit in failed]) == (0, ["early"])


def _deadly(kind: str, media: Sequence[np.ndarray]) -> Iterator[bytes]:
    """The real encoders; some media end the process, some cannot be made."""
    for one in media:
        if one.flat[0] == KILL:
            os.abort()
        if one.flat[0] == RAISE:
            raise av.error.InvalidDataError(1, "no such thing")
        yield MEDIA_ENCODERS[kind](one)


def test_crash_of_an_encoder_quarantines_one_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(media_encoding, "_encode", _deadly)
    firsts = [1, KILL, 2, RAISE]
    row = shard([medium("mp4", first) for first in firsts], [medium("wav")] * 4, [[medium("png", 5)]] * 4)
    table, failed = written(tmp_path, row, isolated=True, attempts=2)
    assert table["id"].to_pylist() == ["id0", "id2"]
    assert [cell["bytes"] for cell in table["video"].to_pylist()] == [
        MEDIA_ENCODERS["mp4"](medium("mp4", n)) for n in (1, 2)
    ]
    assert [unit[:3] + unit[4:] for unit in failed[1:]] == [
        ("id1", "write", "Crashed", 4),
        ("id3", "write", "InvalidDataError", 3),
    ]
    assert failed[1][3].startswith("the child process died of signal 6 (SIGABRT)")


def test_sandbox_encodes_the_same_files_and_blames_the_medium_that_crashes(monkeypatch):
    media = [medium("png", first) for first in (4, 5, KILL)]
    assert encode_in_sandbox("png", media) == encode_directly("png", media)
    monkeypatch.setattr(media_encoding, "_encode", _deadly)
    *made, died = encode_in_sandbox("png", media)
    assert made == encode_directly("png", media)[:2]
    assert isinstance(died, Crashed)
    assert isinstance(died, Died)


def test_memory_error_is_raised_for_another_attempt(monkeypatch):
    def short(array: np.ndarray) -> bytes:
        raise MemoryError

    monkeypatch.setattr(media_encoding, "MEDIA_ENCODERS", {"png": short})
    with pytest.raises(MemoryError):
        encode_directly("png", [medium("png")])

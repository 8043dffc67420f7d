"""Decompression bombs: each is quarantined alone, and no process exceeds its memory limit.

Each file has a few kilobytes and would need at least 1 GiB if it were unpacked; a unit may use half of that.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.reference.published_configs import BARE, SEQUENCE
from tests.faults.conftest import Outcome
from tests.runtime.test_every_task import photograph, png
from tests.sources.image_files import chunk, encoded
from tests.sources.image_files import raw_png as png_of_rows
from tests.sources.test_webdataset_source import tar

Run = Callable[..., Outcome]

UNPACKED_BYTES = 1 << 30
BLOCK = 16 << 20
UNIT_MEMORY = 0.5  # GiB
PROCESS_BYTES = 1.3e9  # an interpreter with its libraries, and the memory of a unit


def gzipped(block: bytes) -> bytes:
    """Return a gzip file that repeats the block up to `UNPACKED_BYTES`, one member per block."""
    return gzip.compress(block, 9, mtime=0) * (UNPACKED_BYTES // len(block))


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Assert that no child process uses more private memory than `PROCESS_BYTES` during the block."""
    most: dict[str, int] = {}
    own, over = psutil.Process().cmdline(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    command, memory = process.cmdline(), process.memory_info()
                    if command != own:  # not a fork of this process that is about to exec
                        name = " ".join(command)[:80]
                        most[name] = max(most.get(name, 0), memory.rss - memory.shared)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert most
    assert {name: memory for name, memory in most.items() if memory > PROCESS_BYTES} == {}


def put(folder: Path, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
        assert len(data) < 4 << 20, key


def assert_only_bombs_quarantined(found: Outcome, good: set[str], bad: dict[str, str]) -> None:
    """Assert that good units are predicted and bad files are quarantined with the expected message."""
    assert found.rows.keys() == good
    assert {name.partition("#")[0] for name in found.quarantined} == bad.keys()
    for key, expected_text in bad.items():
        for reason in found.reasons(key).values():
            assert expected_text in reason, key


def test_image_bombs_are_quarantined_within_the_memory_limit(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    photo, unpacked = photograph(1), zlib.compress(bytes(64 << 20), 9)
    files = {
        "good.png": png(photo),
        "rows.png": png_of_rows(30_000, 24_000, color=2, depth=8, rows=bytes(1 << 20)),
        "fewer-rows.png": png_of_rows(9_000, 9_000, color=2, depth=8, rows=bytes(1 << 20)),
        "frame.gif": with_gif_size(encoded(Image.fromarray(photo).quantize(8), "GIF"), 40_000),
        "archive.png": b"PK\x03\x04" + bytes(1000),
    }
    for kind, head in {b"iCCP": b"icc\0\0", b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0"}.items():
        chunks = chunk(kind, head + unpacked)
        files[f"{kind.decode()}.png"] = png_of_rows(2, 2, color=0, depth=8, rows=bytes(6), chunks=chunks)
    bad = {
        "rows.png": "decompression bomb",
        "fewer-rows.png": "9000 by 9000 pixels are too many",
        "frame.gif": "decompression bomb",
        "archive.png": "a ZIP file is not an image of a supported format",
    } | dict.fromkeys(("iCCP.png", "zTXt.png", "iTXt.png"), "damaged PNG: Decompressed data too large")
    put(tmp_path / "in", files)
    with watched():
        found = run("image-classification", checkpoint, tmp_path / "in", unit_memory=UNIT_MEMORY)
    assert_only_bombs_quarantined(found, {"good.png"}, bad)


def with_gif_size(data: bytes, side: int) -> bytes:
    """Return the GIF with its declared screen size replaced."""
    return data[:6] + struct.pack("<HH", side, side) + data[10:]


def parquet_bomb() -> bytes:
    """Return a Parquet file with one text that needs 1 GiB to decode."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a" * (UNPACKED_BYTES // 2)]}), file, compression="zstd", write_statistics=False)
    return file.getvalue()


def arrow_bomb() -> bytes:
    """Return an Arrow stream whose compressed text claims an uncompressed size of 2⁴⁰ bytes."""
    sink, text = pa.BufferOutputStream(), "a" * 100_000
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, pa.schema([("text", pa.string())]), options=options) as writer:
        writer.write_batch(pa.record_batch({"text": [text]}))
    data = sink.getvalue().to_pybytes()
    size = struct.pack("<q", len(text))  # occurs before the text, and possibly in its uncompressed offsets
    at = data.rindex(size)
    return data[:at] + struct.pack("<q", 2**40) + data[at + len(size) :]


def member(name: str, size: int) -> bytes:
    """Return a tar header with a valid checksum that claims a size in bytes."""
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf()


def npy(shape: str, data: bytes = bytes(96)) -> bytes:
    """Return a .npy file of float32 whose header claims a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.slow  # unpacks 1 GiB six times, for the plan and again for the run
def test_text_bombs_are_quarantined_within_the_memory_limit(run: Run, checkpoints, tmp_path: Path) -> None:
    zeros, letters = bytes(BLOCK), b"a" * BLOCK
    files = {
        "good.jsonl": b'{"text": "good"}\n',
        "line.txt.gz": gzipped(zeros),
        "line.txt.zst": pa.compress(zeros, "zstd", asbytes=True) * (UNPACKED_BYTES // BLOCK),
        "field.csv.gz": gzip.compress(b'text\n"', mtime=0) + gzipped(letters),
        "deep.jsonl": b'{"text": "good"}\n{"text": ' + b"[" * 1_000_000 + b"\n",
        "digits.jsonl": b'{"text": "good"}\n{"text": ' + b"9" * 1_000_000 + b"}\n",
        "row.parquet": parquet_bomb(),
        "data-0.arrow": arrow_bomb(),
        "header.tar": member("0.txt", 2**33) + b"short".ljust(512, b"\0"),
        "member.tar.gz": gzip.compress(member("0.bin", UNPACKED_BYTES))
        + gzipped(zeros)
        + gzip.compress(tar([("1.txt", b"t")])),
        "text.tar.gz": gzip.compress(member("0.txt", UNPACKED_BYTES))
        + gzipped(zeros)
        + gzip.compress(tar([("1.txt", b"t")])),
    }
    bad = {
        "line.txt.gz": "the line has more than 67,108,864 bytes",
        "line.txt.zst": "the line has more than 67,108,864 bytes",
        "field.csv.gz": "the row has more than 67,108,864 bytes",
        "deep.jsonl": "recursion",
        "digits.jsonl": "the record is not valid JSON: Exceeds the limit",
        "row.parquet": "needs more memory than the limit of 0.5 GiB",
        "data-0.arrow": "needs more memory than the limit of 0.5 GiB",
        "header.tar": "the archive could not be read to its end",
        "member.tar.gz": "column txt or text not found; the sample has bin",
        "text.tar.gz": "txt has 1,073,741,824 bytes, at most 536,870,912 are read",
    }
    put(tmp_path / "in", files)
    with watched():
        found = run("text-classification", checkpoints(SEQUENCE), tmp_path / "in", unit_memory=UNIT_MEMORY)
    good = {"good.jsonl#0", "deep.jsonl#0", "digits.jsonl#0", "member.tar.gz#1", "text.tar.gz#1"}
    assert_only_bombs_quarantined(found, good, bad)


def test_array_bombs_are_quarantined_within_the_memory_limit(run: Run, checkpoints, tmp_path: Path) -> None:
    members = {
        "0": "(1, 24)",
        "1": "(1000000000, 24)",
        "2": "(2, 24)",
        "3": "(-1, 24)",
        "4": "(" * 5000,
        "5": "(1, 24,)",
    }
    put(tmp_path / "in", {"a.tar": tar([(f"{name}.npy", npy(shape)) for name, shape in members.items()])})
    with watched():
        found = run("feature-extraction", checkpoints(BARE), tmp_path / "in", unit_memory=UNIT_MEMORY)
    assert found.rows.keys() == {"a.tar#0", "a.tar#5"}
    bad = found.reasons("a.tar")
    assert list(bad) == [f"a.tar#{number}" for number in range(1, 5)]
    assert "memory" in bad["a.tar#1"]
    assert all("npy cannot be read" in bad[f"a.tar#{number}"] for number in (2, 3, 4))

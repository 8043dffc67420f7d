"""An OUTPUT of many parts, made without a model: real parts, plan and receipts of a text classification."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime.plan.plan_files import PlannedShard, Segment, put_plan_file, put_segment
from pipeline.runtime.records.receipts import RECEIPTS, Receipt, receipt_of, receipts_table
from pipeline.runtime.records.run_file import Run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import Footer, Quarantined, encode_part, part_key, put_quarantine
from pipeline.sources.source import Piece
from pipeline.storage import Store

RUN = "abcd0123"
LINE_BYTES = 32  # of each text, so that its id follows from its number
QUARANTINED = 100  # one of so many units
LABELS = [f"label {number}" for number in range(40)]
SECONDS = 3.0  # between two parts
PLAN_FILE_SHARDS, FLUSHED_RECEIPTS = 500, 10


def make_large_run(folder: Path, parts: int, units: int) -> Path:
    """Write INPUT and the OUTPUT of a run with `parts` parts of `units` units each; return OUTPUT."""
    texts = folder / "in" / "lines.txt"
    texts.parent.mkdir(parents=True)
    texts.write_text("".join(f"{number:013d} is a line of text\n" for number in range(parts * units)))
    output = Store(str(folder / "out"))
    output.put(RUN_FILE, _run(texts.parent).to_json())
    digests = _plan(output, texts, parts, units)
    receipts = []
    for shard in range(parts):
        footer, table = _part(shard, units, str(texts), digests[shard])
        data = encode_part(table, footer)
        output.put_if_absent(part_key(RUN, shard), data)
        put_quarantine(output, footer)
        received_at = 1.8e9 + SECONDS * shard + np.sin(shard / 50)
        receipt = receipt_of(footer, size=len(data), seconds_write=0.01)
        receipts.append(replace(receipt, received_at=received_at, driver="a driver"))
    _put_receipts(output, receipts)
    return folder / "out"


def _run(inputs: Path) -> Run:
    options = {"task": "text-classification", "input": str(inputs), "output": "out", "checkpoint": "a model"}
    return Run(
        run=RUN,
        input=str(inputs),
        fingerprint={"head": "text-classification", "checkpoint": "0" * 64, "dtype": "float32", "options": {}},
        record={"created": "2026-01-01T00:00:00+00:00", "checkpoint": "a model", "options": options, "versions": {}},
    )


def _plan(output: Store, texts: Path, parts: int, units: int) -> list[str]:
    """Freeze a plan with one piece per shard; return the digest of the plan file of each."""
    entry = next(Store(str(texts.parent)).entries(texts.name))
    step = LINE_BYTES * units
    shards = [
        PlannedShard(pieces=[Piece.of(entry, begin=begin, end=begin + step, about=units)])
        for begin in range(0, parts * step, step)
    ]
    firsts = range(0, parts, PLAN_FILE_SHARDS)
    files = [put_plan_file(output, 0, first, shards[first : first + PLAN_FILE_SHARDS]) for first in firsts]
    put_segment(output, Segment(number=0, files=tuple(files)))
    return [file.sha256 for file in files for _ in range(file.shards)]


def _part(shard: int, units: int, uri: str, plan: str) -> tuple[Footer, pa.Table]:
    random = np.random.default_rng(shard)
    ids = [f"lines.txt#{number * LINE_BYTES}" for number in range(shard * units, (shard + 1) * units)]
    is_bad = np.arange(units) % QUARANTINED == QUARANTINED - 1
    scores = random.beta(6, 2, units).astype(np.float32)
    labels = np.minimum(random.geometric(0.12, units) - 1, len(LABELS) - 1).astype(np.int32)
    names = pa.array(LABELS).take(pa.array(labels))
    best = pa.StructArray.from_arrays([pa.array(labels), names, pa.array(scores)], ["label_id", "label", "score"])
    columns = {"id": ids, "uri": [uri] * units, "version": ["1"] * units, "segment": np.zeros(units, np.int32)}
    columns |= {"label_id": labels, "label": names, "score": scores}
    columns |= {"topk": pa.ListArray.from_arrays(pa.array(np.arange(units + 1), pa.int32()), best)}
    columns |= dict.fromkeys(("truncated", "replaced"), np.zeros(units, bool))
    table = pa.table(columns).filter(pa.array(~is_bad))
    bad = tuple(
        Quarantined(id=ids[at], uri=uri, stage="load", error="BadMedium", message="it is damaged", attempts=1)
        for at in np.flatnonzero(is_bad).tolist()
    )
    seconds = {"load": 0.4 + 0.1 * random.random(), "predict": 2.6 + 0.2 * random.random()}
    footer = Footer(run=RUN, shard=shard, segment=0, plan=plan, rows=table.num_rows, quarantined=bad, seconds=seconds)
    return footer, table


def _put_receipts(output: Store, receipts: Sequence[Receipt]) -> None:
    """Store the receipts as a run does: a few of them at a time, each time in a new file."""
    for first in range(0, len(receipts), FLUSHED_RECEIPTS):
        file = io.BytesIO()
        pq.write_table(receipts_table(receipts[first : first + FLUSHED_RECEIPTS]), file, compression="zstd")
        output.put(f"{RECEIPTS}{first:05d}.parquet", file.getvalue())

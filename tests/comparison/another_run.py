"""A second run made of the OUTPUT of a first one, with rows that differ as a test wants it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.sinks.parts import FOOTER
from tests.example_runs import copied_with_rows


def another_run(output: Path, target: Path, change: Any = lambda row: row, **run: Any) -> Path:
    """Copy an OUTPUT as that of a run with another name and changed rows."""
    copied_with_rows(output, target, change)
    path = target / "_run/run.json"
    record = json.loads(path.read_text())
    new = "feedc0de"
    for each in [*target.glob("*/part-*"), *target.glob("_run/**/*")]:
        if record["run"] in each.name:
            each.rename(each.with_name(each.name.replace(record["run"], new)))
    for part in (target / "predictions").iterdir():
        rename_in_footer(part, record["run"], new)
    shutil.rmtree(target / "_run/receipts", ignore_errors=True)
    path.write_text(json.dumps(record | {"run": new} | run))
    return target


def rename_in_footer(part: Path, old: str, new: str) -> None:
    """Replace the name of the run in the footer of a part."""
    table, metadata = pq.read_table(part), pq.read_metadata(part).metadata
    with pq.ParquetWriter(part, table.schema) as file:
        file.write_table(table)
        footer = metadata[FOOTER].replace(old.encode(), new.encode())
        file.add_key_value_metadata({FOOTER: footer})

"""Checkpoints and texts for reports, and an OUTPUT that tests may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.reference.published_configs import MASKED_LM, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.results import open_run
from pipeline.sinks.parts import FOOTER

TEXTS = ["A [MASK] of <b>text</b> & more.", "ends in [MASK]", "nothing to fill", "x" * 5000 + " [MASK] " + "y" * 5000]


@pytest.fixture(scope="session")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make_checkpoint(name, small(name), folder / name) for name in (MASKED_LM, SEQUENCE)}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/lines.txt").write_text("\n".join(TEXTS))
    return tmp_path / "in"


@pytest.fixture
def copied(image_run: Path, tmp_path: Path) -> Path:
    """A copy of an INPUT and its OUTPUT, for tests that change them."""
    shutil.copytree(image_run.parent / "in", tmp_path / "in")
    shutil.copytree(image_run, tmp_path / "out")
    record = tmp_path / "out/_run/run.json"
    record.write_text(record.read_text().replace(str(image_run.parent), str(tmp_path)))
    rows = list(open_run(image_run).rows(["id", "uri"]))
    uris = {row["id"]: row["uri"].replace(str(image_run.parent), str(tmp_path)) for row in rows}
    parts = [
        [row["id"] for row in open_run(image_run).rows(["id"], parts=[part])] for part in open_run(image_run).parts()
    ]
    for path, ids in zip(sorted((tmp_path / "out/predictions").iterdir()), parts, strict=True):
        set_column(path, "uri", [uris[unit_id] for unit_id in ids])
    return tmp_path / "out"


def set_column(part: Path, name: str, values: list[str]) -> None:
    """Replace a column of a part, and keep its footer."""
    footer, table = pq.read_metadata(part).metadata[FOOTER], pq.read_table(part)
    table = table.set_column(table.column_names.index(name), name, pa.array(values))
    with pq.ParquetWriter(part, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER: footer})

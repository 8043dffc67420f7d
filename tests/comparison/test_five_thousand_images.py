"""Two checkpoints on 5,000 images: all counts are those of a plain query of DuckDB, locally and in S3."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline import Comparison, compare
from tests import example_runs

pytestmark = pytest.mark.slow  # 10,000 predictions
IMAGES = 5_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The OUTPUTs of two checkpoints over digits, each several times in other brightness and with other noise."""
    folder, digits, chance = tmp_path_factory.mktemp("digits"), load_digits(), np.random.default_rng(0)
    for number in range(IMAGES):
        place = number % len(digits.target)
        shades = digits.images[place] / 16 * chance.uniform(0.4, 1) + chance.normal(0, 0.12, (8, 8))
        path = folder / f"in/{digits.target[place]}/{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * shades.clip(0, 1)).round().astype(np.uint8)).convert("RGB").save(path)
    (folder / "in/0/0000.png").write_bytes(b"damaged")
    started = time.monotonic()
    for name in ("demo:fourier", "demo:learned"):
        output = folder / name.partition(":")[2]
        example_runs.run("image-classification", folder / "in", output, Path(name), label_from="folder")
    print(f"both runs: {time.monotonic() - started:.0f} s")
    return folder / "fourier", folder / "learned"


def check(found: Comparison, runs: tuple[Path, Path], table: str) -> None:
    """Assert that the counts are those of a query on the files of both runs, and of one on the table."""
    rows = "'{}/predictions/*.parquet' a join '{}/predictions/*.parquet' b using (id)".format(*runs)
    units, same = duckdb.sql(f"select count(*), count(*) filter (a.label = b.label) from {rows}").fetchall()[0]
    assert found.labels is not None
    assert (found.units.both, found.labels.units, found.labels.same) == (IMAGES - 1, units, same)
    changes = duckdb.sql(f"select a.label, b.label, count(*) from {rows} where a.label <> b.label group by all")
    assert {(each.a, each.b, each.units) for each in found.labels.changes} == set(changes.fetchall())
    right = duckdb.sql(
        "select count(*) filter (a.label = a.known_label and b.label = a.known_label), "
        "count(*) filter (a.label = a.known_label and b.label <> a.known_label), "
        "count(*) filter (a.label <> a.known_label and b.label = a.known_label), "
        f"count(*) filter (a.label <> a.known_label and b.label <> a.known_label) from {rows}"
    ).fetchall()[0]
    known = found.known_labels
    assert known is not None
    assert (known.both_right, known.only_a_right, known.only_b_right, known.both_wrong) == right
    moved = duckdb.sql(f"select max(abs(b.score - a.score)) from {rows} where a.label = b.label").fetchall()[0][0]
    assert found.labels.score_most == pytest.approx(moved)
    assert 0.5 < found.labels.agreement < 1
    differing = f"select count(*) from '{table}' where list_contains(changed, 'label')"
    assert duckdb.sql(differing).fetchall() == [(units - same,)]


def test_counts_are_those_of_duckdb(runs: tuple[Path, Path], tmp_path: Path) -> None:
    started = time.monotonic()
    found = compare(*runs, tmp_path / "changes")
    print(f"local: {time.monotonic() - started:.1f} s", *found.describe(), sep="\n")
    check(found, runs, f"{tmp_path}/changes/differences.parquet")


def test_counts_are_the_same_in_s3(runs: tuple[Path, Path], s3, tmp_path: Path) -> None:
    bucket = s3.bucket("compared")
    name = bucket.removeprefix("s3://")
    for run in runs:
        for path in run.rglob("*.*"):
            s3.client.upload_file(str(path), name, f"{run.name}/{path.relative_to(run)}")
    started = time.monotonic()
    found = compare(*(f"{bucket}/{run.name}" for run in runs), f"{bucket}/changes")
    print(f"S3: {time.monotonic() - started:.1f} s")
    s3.client.download_file(name, "changes/differences.parquet", str(tmp_path / "differences.parquet"))
    check(found, runs, f"{tmp_path}/differences.parquet")
    page = s3.client.get_object(Bucket=name, Key="changes/comparison.html")["Body"].read().decode()
    assert "Labels that changed" in page

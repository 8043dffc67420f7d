"""Tables whose rows name files: the id is the row's, the URI and the version those of the file that it names.

Retry, report and export find the files of such rows, also in an OUTPUT of an earlier version, whose rows have the URI
of their table.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.export.export import export
from pipeline.originals.originals import Absent, UnitRef, read_originals
from pipeline.originals.preview import Preview
from pipeline.reference.published_configs import FLOW
from pipeline.results import Results, open_run
from pipeline.runtime.driver.run import Summary
from pipeline.sinks.parts import FOOTER, Footer, parse_part_key
from pipeline.storage import Store
from tests import example_runs
from tests.sample_videos import make_video

TASK = "image-classification"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return an INPUT with images in `img/`."""
    uri = str(tmp_path / "in") if request.param == "local" else request.getfixturevalue("s3").bucket("tables") + "/in"
    return with_images(Store(uri))


def png(number: int) -> bytes:
    """Return the content of an image file that differs for each number."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def with_images(folder: Store) -> Store:
    for number in (0, 1):
        folder.put(f"img/{number}.png", png(number))
    return folder


def classify(source: str, output: Path, checkpoint: Path, **options: Any) -> Summary:
    return example_runs.run(TASK, source, output, checkpoint, **({"max_quarantine": 1.0} | options))


def counts(summary: Summary) -> tuple[int, int, int]:
    return summary.units, summary.rows, summary.quarantined


def originals(results: Results) -> dict[str, Preview | Absent]:
    """Return the originals of all rows, as a report shows them."""
    units = []
    for part in results.parts():
        name = parse_part_key(part)
        assert name is not None
        units += [UnitRef(row["id"], row["uri"], name[1]) for row in results.rows(["id", "uri"], parts=[part])]
    return read_originals(results.store, results.run, units)


def test_rows_name_their_files_in_predictions_quarantine_retry_report_and_export(
    folder: Store, checkpoint: Path, tmp_path: Path
) -> None:
    paths = ["img/0.png", f"{folder.uri}/img/1.png", "img/gone.png", "/elsewhere/x.png"]
    folder.put("labels.csv", "\n".join(["image", *paths]).encode())
    output = tmp_path / "out"
    assert counts(classify(f"{folder.uri}/labels.csv", output, checkpoint)) == (4, 2, 2)
    rows = list(open_run(output).rows(["id", "uri", "version"]))
    entries = [folder.entry(f"img/{number}.png") for number in (0, 1)]
    assert [(row["uri"], row["version"]) for row in rows] == [(folder.uri_of(one.key), one.version) for one in entries]
    assert [row["id"] for row in rows] == ["labels.csv#6", "labels.csv#16"]
    bad = open_run(output).quarantined().to_pylist()
    assert [(unit["uri"], unit["error"]) for unit in bad] == [
        (folder.uri_of("img/gone.png"), "Missing"),
        ("/elsewhere/x.png", "BadMedium"),
    ]

    folder.put("img/gone.png", png(7))
    assert counts(classify(f"{folder.uri}/labels.csv", output, checkpoint, retry_quarantined=True)) == (4, 3, 1)
    results = open_run(output)
    assert [unit["uri"] for unit in results.quarantined().to_pylist()] == ["/elsewhere/x.png"]
    assert (results.status().rows, results.status().quarantined) == (3, 1)
    assert [type(one) for one in originals(results).values()] == [Preview] * 3

    folder.put("img/1.png", png(8))
    exported = export(results, str(tmp_path / "set"), "dataset")
    assert dict(exported.notes)["images that cannot be read again (Changed): not copied"] == 1
    images = copied_images(tmp_path / "set")
    kept = {"img/0.png": "labels.csv#6", "img/gone.png": bad[0]["id"]}
    assert images == {unit: folder.read(key) for key, unit in kept.items()} | {"labels.csv#16": None}


def copied_images(dataset: Path) -> dict[str, bytes | None]:
    """Return the exported image of each row by its id."""
    rows = pq.read_table(dataset / "data", columns=["id", "image"]).to_pylist()
    return {row["id"]: row["image"] and row["image"]["bytes"] for row in rows}


def as_earlier_version(output: Path) -> Path:
    """Change an OUTPUT to what earlier versions wrote: rows and quarantined units have the URI of their table."""
    table_uri = open_run(output).run.input
    for part in (output / "predictions").iterdir():
        table, footer = pq.read_table(part), Footer.from_json(pq.read_metadata(part).metadata[FOOTER])
        column = pa.array([table_uri] * table.num_rows)
        table = table.set_column(table.column_names.index("uri"), "uri", column)
        units = tuple(replace(unit, uri=table_uri, key="") for unit in footer.quarantined)
        text = replace(footer, quarantined=units).to_json().replace(b'"key": "", ', b"")
        assert b'"key"' not in text
        with pq.ParquetWriter(part, table.schema) as file:
            file.write_table(table)
            file.add_key_value_metadata({FOOTER: text})
    return output


def test_an_output_of_an_earlier_version_is_retried_shown_and_exported(checkpoint: Path, tmp_path: Path) -> None:
    folder = with_images(Store(str(tmp_path / "in")))
    folder.put("labels.csv", b"image\nimg/0.png\nimg/gone.png\n")
    output, source = tmp_path / "out", folder.uri_of("labels.csv")
    classify(source, output, checkpoint)
    as_earlier_version(output)
    folder.put("img/gone.png", png(7))
    assert counts(classify(source, output, checkpoint, retry_quarantined=True)) == (2, 2, 0)
    results = open_run(output)
    assert [row["uri"] for row in results.rows(["uri"])] == [source, folder.uri_of("img/gone.png")]
    assert results.quarantined().num_rows == 0
    assert [type(one) for one in originals(results).values()] == [Preview, Preview]
    exported = export(results, str(tmp_path / "set"), "dataset")
    assert dict(exported.notes)["images in archives or tables: not copied"] == 1


def test_rows_with_ids_of_a_column_are_retried_and_exported(checkpoint: Path, tmp_path: Path) -> None:
    folder = with_images(Store(str(tmp_path / "in")))
    names = {"a": ["0", "gone"], "b": ["1", "lost"]}
    for table, images in names.items():
        lines = [f"{table}.csv#{name},img/{name}.png" for name in images]
        folder.put(f"{table}.csv", "\n".join(["name,image", *lines]).encode())
    image = {"bytes": png(3), "path": None}
    pq.write_table(pa.table({"name": ["stored"], "image": [image]}), tmp_path / "in/c.parquet")
    output, source, options = tmp_path / "out", f"{folder.uri}/*.[cp]*", {"id_column": "name", "shard_size": 100}
    assert counts(classify(source, output, checkpoint, **options)) == (5, 3, 2)
    for name in ("gone", "lost"):
        folder.put(f"img/{name}.png", png(7))
    folder.put("b.csv", folder.read("b.csv") + b"\n")
    retried = classify(source, output, checkpoint, retry_quarantined=True, **options)
    assert counts(retried) == (5, 4, 1), "a.csv is as planned, b.csv changed"
    results = open_run(output)
    assert [unit["id"] for unit in results.quarantined().to_pylist()] == ["b.csv#lost"]
    shown = {unit: isinstance(one, Preview) for unit, one in originals(results).items()}
    assert shown == {"a.csv#0": True, "a.csv#gone": True, "b.csv#1": False, "stored": True}
    exported = export(results, str(tmp_path / "set"), "dataset")
    assert dict(exported.notes) == {"images in archives or tables: not copied": 1}
    assert copied_images(tmp_path / "set") == {
        "a.csv#0": folder.read("img/0.png"),
        "a.csv#gone": folder.read("img/gone.png"),
        "b.csv#1": folder.read("img/1.png"),
        "stored": None,
    }


def test_a_video_that_a_row_names_is_read_once_it_is_there(tmp_path: Path, checkpoints: Callable[..., Path]) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/one.mp4", seconds=0.12, size=(20, 14))
    (tmp_path / "in/videos.csv").write_text("clip\none.mp4\ntwo.mp4\n")
    places = ("optical-flow", tmp_path / "in/videos.csv", tmp_path / "out", checkpoints(FLOW))
    options: dict[str, Any] = {"column": "clip", "max_quarantine": 1.0}
    first = example_runs.run(*places, **options)
    assert counts(first) == (3, 2, 1)
    uris = {row["id"]: row["uri"] for row in open_run(tmp_path / "out").rows(["id", "uri"])}
    assert uris == dict.fromkeys(["videos.csv#5@0.000", "videos.csv#5@0.040"], str(tmp_path / "in/one.mp4"))
    (bad,) = open_run(tmp_path / "out").quarantined().to_pylist()
    assert (bad["uri"], bad["error"]) == (str(tmp_path / "in/two.mp4"), "Missing")
    make_video(tmp_path / "in/two.mp4", seconds=0.16, size=(20, 14))
    assert counts(example_runs.run(*places, **options, retry_quarantined=True)) == (5, 5, 0)
    assert open_run(tmp_path / "out").quarantined().num_rows == 0

"""The exported folder opens with `datasets`, with labels as classes and images, video and audio as media."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.export.export import export
from pipeline.results import open_run
from pipeline.runtime.errors import UsageError
from pipeline.sinks.parts import FOOTER
from tests import example_runs


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`load(folder)`: load it as the card says."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return lambda folder: datasets.load_dataset(str(folder), split="train")


def stored(output: Path) -> list[dict]:
    return [row for part in sorted((output / "predictions").iterdir()) for row in pq.read_table(part).to_pylist()]


def name_labels(output: Path, names: list[str]) -> None:
    """Replace the labels that run.json names."""
    record = json.loads((output / "_run/run.json").read_text())
    (output / "_run/run.json").write_text(json.dumps(record | {"labels": names}))


def test_images_and_labels_have_their_features(image_run: Path, tmp_path: Path, load) -> None:
    exported = export(open_run(image_run), str(tmp_path / "set"), "dataset")
    loaded, rows = load(tmp_path / "set"), stored(image_run)
    assert (exported.written, exported.rows, len(loaded)) == (3, len(rows), len(rows))
    label, image = loaded.features["label"], loaded.features["image"]
    assert isinstance(label, datasets.ClassLabel)
    assert isinstance(image, datasets.Image)
    assert list(loaded.features)[:2] == ["id", "image"]
    for found, row in zip(loaded, rows, strict=True):
        assert label.int2str(found["label"]) == row["label"]
        assert found["label"] == row["label_id"]
        original = Image.open(image_run.parent / "in" / row["id"])
        assert found["image"].tobytes() == original.tobytes()
        assert found["latents"] == row["latents"]
    raw = loaded.cast_column("image", datasets.Image(decode=False))[2]["image"]
    assert raw["bytes"] == (image_run.parent / "in" / raw_id(loaded, 2)).read_bytes()


def raw_id(loaded: datasets.Dataset, row: int) -> str:
    return loaded.select_columns("id")[row]["id"]


def test_video_and_audio_have_their_features(clip_run: Path, tmp_path: Path, load) -> None:
    export(open_run(clip_run), str(tmp_path / "set"), "dataset")
    loaded = load(tmp_path / "set")
    assert isinstance(loaded.features["video"], datasets.Video)
    assert isinstance(loaded.features["audio"], datasets.Audio)
    raw = loaded.cast_column("video", datasets.Video(decode=False)).cast_column("audio", datasets.Audio(decode=False))
    assert [(row["video"]["bytes"], row["audio"]["bytes"]) for row in raw] == [
        (row["video"]["bytes"], row["audio"]["bytes"]) for row in stored(clip_run)
    ]


def test_frames_stored_with_flow_are_images(tmp_path: Path, load) -> None:
    output = example_runs.flow_run(tmp_path, latents=True)
    export(open_run(output), str(tmp_path / "set"), "dataset", ids=["two.mp4#0.000"])
    loaded = load(tmp_path / "set")
    assert isinstance(loaded.features["frames"].feature, datasets.Image)
    assert [frame.size for frame in loaded[0]["frames"]] == [(20, 14), (20, 14)]


def test_images_that_are_gone_changed_or_not_whole_files_are_counted(image_run: Path, tmp_path: Path, load) -> None:
    copied = tmp_path / "in"
    for path in (image_run.parent / "in").rglob("*.*"):
        (copied / path.relative_to(image_run.parent / "in")).parent.mkdir(parents=True, exist_ok=True)
        (copied / path.relative_to(image_run.parent / "in")).write_bytes(path.read_bytes())
    (copied / "e.png").unlink()
    Image.new("RGB", (4, 4)).save(copied / "cats/b.png")

    def moved(row: dict) -> dict:
        row["uri"] = str(copied / row["id"])
        return row | ({"id": "set.tar#3", "uri": str(copied / "set.tar")} if row["id"] == "dogs/d.png" else {})

    output = example_runs.copied_with_rows(image_run, tmp_path / "out", moved)
    notes = export(open_run(output), str(tmp_path / "set"), "dataset").notes
    assert notes["images that cannot be read again (Missing): not copied"] == 1
    assert notes["images that cannot be read again (Changed): not copied"] == 1
    assert notes["images in archives or tables: not copied"] == 1
    without = {row["id"] for row in load(tmp_path / "set") if row["image"] is None}
    assert without == {"e.png", "cats/b.png", "set.tar#3"}


def test_rows_that_a_run_added_are_loaded_although_datasets_keeps_copies(image_run: Path, tmp_path: Path, load) -> None:
    output = example_runs.copied_with_rows(image_run, tmp_path / "out", dict)
    *_, last = sorted((output / "predictions").iterdir())
    last.rename(tmp_path / last.name)
    export(open_run(output), str(tmp_path / "set"), "dataset")
    first = len(load(tmp_path / "set"))
    (tmp_path / last.name).rename(last)
    export(open_run(output), str(tmp_path / "set"), "dataset")
    assert first < len(load(tmp_path / "set")) == 8
    (tmp_path / "other").mkdir()
    export(open_run(output), str(tmp_path / "other/set"), "dataset", ids=["e.png"])
    assert load(tmp_path / "other/set")["id"][:] == ["e.png"]


def test_an_export_that_was_killed_continues_and_adds_parts(image_run: Path, tmp_path: Path, load) -> None:
    results = open_run(image_run)

    def die(done: int, total: int) -> None:
        if done == 1:
            (tmp_path / "set/_export/shard.parquet").write_bytes(b"half a file")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(results, str(tmp_path / "set"), "dataset", on_part=die)
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set/data").iterdir()}
    exported = export(results, str(tmp_path / "set"), "dataset")
    assert (exported.present, exported.written, exported.rows) == (1, 2, 8)
    assert all((tmp_path / "set/data" / name).stat().st_mtime_ns == time for name, time in first.items())
    assert len(load(tmp_path / "set")) == 8


def test_a_card_that_was_edited_stays(image_run: Path, tmp_path: Path) -> None:
    results = open_run(image_run)
    export(results, str(tmp_path / "set"), "dataset")
    card = tmp_path / "set/README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    exported = export(results, str(tmp_path / "set"), "dataset")
    assert "README.md was edited and stays as it is" in exported.notes
    assert card.read_text().endswith("My own words.\n")


def test_two_labels_of_one_name_stay_texts(image_run: Path, tmp_path: Path, load) -> None:
    def same(row: dict) -> dict:
        return row | {"label": "x", "topk": [label | {"label": "x"} for label in row["topk"]]}

    output = example_runs.copied_with_rows(image_run, tmp_path / "out", same)
    name_labels(output, [])  # as in a run of an earlier version
    exported = export(open_run(output), str(tmp_path / "set"), "dataset")
    assert "two labels have the same name, so labels are texts" in exported.notes
    assert set(load(tmp_path / "set")["label"]) == {"x"}


def test_hostile_labels_and_names_are_inert_in_the_card(image_run: Path, tmp_path: Path, load) -> None:
    texts = {number: f"x: [{number}] '\"\n---\n<script>" for number in range(1000)}

    def hostile(row: dict) -> dict:
        topk = [label | {"label": texts[label["label_id"]]} for label in row["topk"]]
        return row | {"label": texts[row["label_id"]], "topk": topk}

    output = example_runs.copied_with_rows(image_run, tmp_path / "out", hostile)
    name_labels(output, [texts[number] for number in range(len(open_run(image_run).run.label_names))])
    export(open_run(output), str(tmp_path / "set"), "dataset")
    loaded = load(tmp_path / "set")
    label = loaded.features["label"]
    assert {label.int2str(row["label"]) for row in loaded} <= set(texts.values())


def test_memory_of_images_is_bounded_by_row_groups(
    image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.dataset_folder.GROUP_BYTES", 1000)
    monkeypatch.setattr("pipeline.export.dataset_folder.ROWS_AT_ONCE", 1)
    export(open_run(image_run), str(tmp_path / "set"), "dataset")
    groups = [pq.read_metadata(path).num_row_groups for path in (tmp_path / "set/data").iterdir()]
    assert sum(groups) == 8


def test_kept_columns_without_a_feature_are_left_out_and_said(tmp_path: Path, checkpoint: Path, load) -> None:
    example_runs.image_run(tmp_path, checkpoint)
    part = next((tmp_path / "out/predictions").iterdir())
    table, footer = pq.read_table(part), pq.read_metadata(part).metadata[FOOTER]
    kept = {"pairs": pa.map_(pa.string(), pa.int32()), "day": pa.date32(), "price": pa.decimal128(5, 2)}
    for name, kind in kept.items():
        table = table.append_column(name, pa.nulls(table.num_rows, kind))
    with pq.ParquetWriter(part, table.schema.remove_metadata()) as file:
        file.write_table(table.replace_schema_metadata(None))
        file.add_key_value_metadata({FOOTER: footer})
    for other in set((tmp_path / "out/predictions").iterdir()) - {part}:
        other.unlink()
    notes = export(open_run(tmp_path / "out"), str(tmp_path / "set"), "dataset").notes
    assert any(note.startswith("column pairs left out: datasets has no feature for map") for note in notes)
    assert {"day", "price"} < set(load(tmp_path / "set").features)


def known(loaded: datasets.Dataset) -> dict[str, str | None]:
    """Return the name of the known label of each unit."""
    label = loaded.features["known_label"]
    values = loaded.select_columns(["id", "known_label"])
    return {row["id"]: None if row["known_label"] is None else label.int2str(row["known_label"]) for row in values}


def test_known_labels_of_a_column_are_classes_with_the_names_of_the_run(tmp_path: Path, checkpoint: Path, load) -> None:
    for number, name in enumerate(("LABEL_1/a.png", "LABEL_0/b.png", "strange/c.png", "d.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * number, 90, 30)).save(tmp_path / "in" / name)
    example_runs.run("image-classification", tmp_path / "in", tmp_path / "out", checkpoint, label_from="folder")
    run = open_run(tmp_path / "out")
    exported = export(run, str(tmp_path / "set"), "dataset")
    loaded = load(tmp_path / "set")
    label, truth = loaded.features["label"], loaded.features["known_label"]
    assert isinstance(truth, datasets.ClassLabel)
    assert label.names == truth.names == [*run.run.label_names, "strange"]
    assert known(loaded) == {
        "LABEL_0/b.png": "LABEL_0",
        "LABEL_1/a.png": "LABEL_1",
        "d.png": None,
        "strange/c.png": "strange",
    }
    assert loaded["label"] == loaded["label_id"]
    assert "1 unit with known labels that the run does not have, which follow its own: 'strange'" in exported.notes
    loaded.save_to_disk(str(tmp_path / "saved"))
    assert datasets.load_from_disk(str(tmp_path / "saved")).features == loaded.features


def labels(folder: Path, text: str) -> str:
    (folder / "labels.csv").write_text(f"id,label\n{text}")
    return str(folder / "labels.csv")


def test_known_labels_of_a_file_are_classes(image_run: Path, tmp_path: Path, load) -> None:
    file = labels(tmp_path, "e.png,LABEL_2\ncats/Ä.png,LABEL_0\nelsewhere,LABEL_1\ncats/b.png,\n")
    exported = export(open_run(image_run), str(tmp_path / "set"), "dataset", labels=file)
    loaded = load(tmp_path / "set")
    assert loaded.features["known_label"] == loaded.features["label"]
    assert loaded.features["label"].names == list(open_run(image_run).run.label_names)
    assert {name: label for name, label in known(loaded).items() if label} == {
        "e.png": "LABEL_2",
        "cats/Ä.png": "LABEL_0",
    }
    assert f"{file}: 1 of 3 ids is without a row: 'elsewhere'" in exported.notes


def test_known_labels_that_are_numbers_are_ids_of_labels(image_run: Path, tmp_path: Path, load) -> None:
    file = labels(tmp_path, "e.png,2\ncats/b.png,0\n")
    exported = export(open_run(image_run), str(tmp_path / "set"), "dataset", labels=file)
    assert {name for name in known(load(tmp_path / "set")).values() if name} == {"LABEL_2", "LABEL_0"}
    assert "the known labels are numbers: they are taken for ids of the checkpoint's labels" in exported.notes


def test_known_labels_of_a_run_without_labels_are_classes_of_their_own(tmp_path: Path, checkpoint: Path, load) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    example_runs.run("feature-extraction", tmp_path / "a.png", tmp_path / "out", checkpoint)
    (unit,) = (row["id"] for row in open_run(tmp_path / "out").rows(["id"]))
    exported = export(
        open_run(tmp_path / "out"), str(tmp_path / "set"), "dataset", labels=labels(tmp_path, f"{unit},<b>\n")
    )
    loaded = load(tmp_path / "set")
    assert loaded.features["known_label"].names == ["<b>"]
    assert known(loaded) == {unit: "<b>"}
    assert +exported.notes == {}


def test_numbers_of_known_labels_stay_when_the_run_adds_rows(tmp_path: Path, checkpoint: Path, load) -> None:
    def put(name: str) -> None:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / name)
        example_runs.run("image-classification", tmp_path / "in", tmp_path / "out", checkpoint, label_from="folder")
        export(open_run(tmp_path / "out"), str(tmp_path / "set"), "dataset")

    put("zebra/a.png")
    put("ape/b.png")
    loaded = load(tmp_path / "set")
    assert loaded.features["label"].names[-2:] == ["zebra", "ape"]
    assert known(loaded) == {"zebra/a.png": "zebra", "ape/b.png": "ape"}


def test_known_labels_that_are_too_many_stay_texts(
    image_run: Path, tmp_path: Path, load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.label_classes.MAX_OTHERS", 1)
    file = labels(tmp_path, "e.png,x\ncats/b.png,y\ncats/Ä.png,LABEL_0\n")
    exported = export(open_run(image_run), str(tmp_path / "set"), "dataset", labels=file)
    loaded = load(tmp_path / "set")
    assert sorted(filter(None, loaded["known_label"])) == ["LABEL_0", "x", "y"]
    assert loaded.features["label"].names == list(open_run(image_run).run.label_names)
    assert "known labels are texts: 2 of them are not labels of the run, more than 1" in exported.notes


def test_other_labels_than_those_in_the_folder_are_refused(image_run: Path, tmp_path: Path) -> None:
    export(open_run(image_run), str(tmp_path / "set"), "dataset", labels=labels(tmp_path, "e.png,LABEL_1\n"))
    with pytest.raises(UsageError, match=r"holds another export \(labels .*labels\.csv \(\w{12}\), not .*name a new"):
        export(open_run(image_run), str(tmp_path / "set"), "dataset", labels=labels(tmp_path, "e.png,LABEL_2\n"))
    with pytest.raises(UsageError, match=r"none of its 1 id has a row"):
        export(open_run(image_run), str(tmp_path / "new"), "dataset", labels=labels(tmp_path, "x,LABEL_2\n"))
    assert not (tmp_path / "new").exists()


def test_labels_of_a_run_that_did_not_record_them_are_those_of_its_rows(image_run: Path, tmp_path: Path, load) -> None:
    output = example_runs.copied_with_rows(image_run, tmp_path / "out", dict)
    name_labels(output, [])
    exported = export(open_run(output), str(tmp_path / "set"), "dataset")
    loaded = load(tmp_path / "set")
    label = loaded.features["label"]
    assert [label.int2str(row["label"]) for row in loaded] == [row["label"] for row in stored(image_run)]
    unseen = sum(name == f"unseen_{number}" for number, name in enumerate(label.names))
    assert unseen > 0
    assert exported.notes["labels that no row has are called unseen_ and their number"] == unseen

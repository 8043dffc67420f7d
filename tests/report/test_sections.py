"""What report.html shows of each task: examples with their originals, distributions, and what is not shown."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.formatting import percent
from pipeline.reference.published_configs import MASKED_LM, SEQUENCE
from pipeline.report.report import make_report
from pipeline.results import open_run
from tests import example_runs
from tests.report.conftest import TEXTS
from tests.report.parsed_page import page_of


def pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_report_of_images_shows_labels_and_examples_with_thumbnails(image_run: Path) -> None:
    page = page_of(image_run)
    assert "image-classification" in page.text
    thumbnails = page.all("img", "class", "thumb")
    assert sorted(str(each["alt"]) for each in thumbnails) == sorted(example_runs.IMAGES)
    stored = {row["id"]: row for row in open_run(image_run).rows(["id", "label", "score"])}
    for row in stored.values():
        assert f"{row['label']} {percent(row['score'])}" in page.text
    owl = next(each for each in thumbnails if each["alt"] == "birds/owl.png")
    original = np.asarray(Image.open(image_run.parent / "in/birds/owl.png").convert("RGB"), np.float32)
    assert np.abs(pixels(owl["src"]) - original).mean() < 8  # JPEG
    assert "rows 8 quarantined 1 left out 0 units planned 9" in page.text
    assert "BadMedium: 1 unit" in page.text
    assert "dogs/bad.png" in page.text


def test_report_of_texts_shows_them_next_to_their_labels(texts: Path, text_models: dict[str, Path]) -> None:
    output = texts.parent / "out"
    example_runs.run("text-classification", texts, output, text_models[SEQUENCE])
    page = page_of(output)
    assert "A [MASK] of <b>text</b> & more." in page.text
    assert "cut: 10,008 characters" in page.text
    assert len(page.all("p", "class", "quote")) == len(TEXTS)


def test_report_shows_texts_without_characters_and_says_what_least_confident_means(
    tmp_path: Path, text_models: dict[str, Path]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text('n,text\n1,\n2,"   "\n3,good\n')
    example_runs.run("text-classification", tmp_path / "in", tmp_path / "out", text_models[SEQUENCE])
    page = page_of(tmp_path / "out")
    assert "(empty text)" in page.text
    assert "(blank text of 3 characters)" in page.text
    assert "The model is least certain of these. Whether it is right, only true labels tell" in page.text


def test_report_of_masks_shows_them_filled_with_candidates_on_focus(texts: Path, text_models: dict[str, Path]) -> None:
    output = texts.parent / "out"
    example_runs.run("fill-mask", texts, output, text_models[MASKED_LM], top_k=3)
    page = page_of(output)
    masks = page.all("span", "class", "mask")
    assert len(masks) == 3
    assert all(each["tabindex"] == "0" and each["aria-describedby"] for each in masks)
    assert len(page.all("span", "role", "tooltip")) == 3
    best = {row["id"]: row["masks"] for row in open_run(output).rows(["id", "masks"])}["lines.txt#0"][0]["candidates"]
    assert all(percent(each["score"]) in page.text for each in best)
    assert "Masks: 3, in 3 of these texts." in page.text
    assert "10,008 characters in all" in page.text


def test_report_of_flow_shows_frames_arrows_and_colors(flow_run: Path) -> None:
    page = page_of(flow_run)
    results = open_run(flow_run)
    assert len(page.all("figure", "class", "pair")) == len(list(results.rows(["id"]))) == 5
    seconds = [each for each in page.all("img") if str(each["alt"]).startswith("Second frame")]
    colors = [each for each in page.all("img") if str(each["alt"]).startswith("Flow of")]
    assert len(seconds) == len(colors) == len(page.all("path", "class", "arrow")) == 5
    assert {pixels(each["src"]).shape for each in colors} == {(14, 20, 3)}
    assert all(str(each["d"]).startswith("M") for each in page.all("path", "class", "arrow"))


def test_report_of_points_draws_arrows_and_no_colors(flow_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(flow_run, tmp_path / "out")
    for part in (output / "predictions").iterdir():
        table = pq.read_table(part)
        columns = {"points": pa.array([[3, 4, 10, 9]] * table.num_rows, pa.list_(pa.int32()))}
        columns["flow"] = pa.array([np.float16([1, 0, 0, 2])] * table.num_rows, table.schema.field("flow").type)
        pq.write_table(pa.table({**{name: table[name] for name in table.column_names}, **columns}), part)
    page = page_of(output)
    assert len(page.all("path", "class", "arrow")) == 5
    assert not [each for each in page.all("img") if str(each["alt"]).startswith("Flow of")]


def test_report_of_clips_plays_originals_and_reconstructions_with_sound(clip_run: Path) -> None:
    page = page_of(clip_run)
    rows = {row["id"]: row for row in open_run(clip_run).rows(["id", "video_psnr_db"])}
    videos = page.all("video")
    assert len(videos) == 2 * len(rows) == 4
    for each in videos:
        assert "autoplay" not in each
        data = base64.b64decode(str(each["src"]).partition(",")[2])
        with av.open(io.BytesIO(data)) as container:
            assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
            assert len(list(container.decode(video=0))) == 16
            container.seek(0)
            sound = sum(frame.samples for frame in container.decode(audio=0))
        assert abs(sound - 0.64 * 48_000) <= 2 * 1024  # AAC has frames of 1,024 samples
    assert all(f"video {row['video_psnr_db']:.1f} dB" in page.text for row in rows.values())


def test_report_of_embeddings_maps_thumbnails(image_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    example_runs.run("feature-extraction", image_run.parent / "in", output, checkpoint, max_quarantine=0.5)
    page = page_of(output)
    assert len(page.all("image")) == len(example_runs.IMAGES)
    assert "of their variance" in page.text


def test_report_of_a_run_on_stored_latents_says_that_it_read_no_originals(
    image_run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = {"from_latents": str(image_run), "max_quarantine": 0.5}
    example_runs.run("image-classification", "", output, checkpoint, **options)
    page = page_of(output)
    assert "this run decoded stored latents and read no originals" in page.text
    assert page.all("img") == []


def test_reports_name_numbers_of_digits_people_can_read(image_run: Path) -> None:
    html = make_report(open_run(image_run))
    assert not re.search(r"\d\.\d{6,}", re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL))

"""Exported flow, read by readers that are written here from the definitions of the formats."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.export.export import export
from pipeline.export.flo import encode_flo
from pipeline.export.kitti import encode_kitti
from pipeline.results import open_run
from pipeline.results.flow_colors import flow_colors
from pipeline.runtime.errors import UsageError
from pipeline.sinks.parts import FOOTER
from tests import example_runs


def read_flo(data: bytes) -> np.ndarray:
    """Read a file of Middlebury: float 202021.25, int32 width and height, float32 u and v of each pixel by rows."""
    tag, width, height = struct.unpack("<fii", data[:12])
    assert tag == 202021.25
    assert data[:4] == b"PIEH"
    values = struct.unpack(f"<{2 * width * height}f", data[12:])
    return np.array(values, np.float32).reshape(height, width, 2)


def read_kitti(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Read a PNG of 16-bit RGB (RFC 2083): flow is (channel - 2^15) / 64, valid is the third channel not being 0."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        chunks[name] = chunks.get(name, b"") + data[at + 8 : at + 8 + size]
        at += 12 + size
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, color, interlace) == (16, 2, 0)
    raw, stride = zlib.decompress(chunks[b"IDAT"]), 6 * width
    rows, above = [], [0] * stride
    for row in range(height):
        start = row * (stride + 1)
        above = _unfiltered(raw[start], raw[start + 1 : start + 1 + stride], above)
        rows.append(above)
    values = np.array(rows, np.uint8).reshape(height, width, 3, 2)
    channels = values[..., 0].astype(int) * 256 + values[..., 1]
    return (channels[..., :2] - 2**15) / 64, channels[..., 2] != 0


def _unfiltered(kind: int, line: bytes, above: list[int]) -> list[int]:
    """Undo the filter of a row of PNG with 6 bytes per pixel."""
    out: list[int] = []
    for at, value in enumerate(line):
        left, corner = (out[at - 6], above[at - 6]) if at >= 6 else (0, 0)
        up = above[at]
        estimate = left + up - corner
        paeth = min((left, up, corner), key=lambda one: abs(estimate - one))
        out.append((value + (0, left, up, (left + up) // 2, paeth)[kind]) % 256)
    return out


def stored_flow(output: Path) -> dict[str, np.ndarray]:
    rows = [row for part in sorted((output / "predictions").iterdir()) for row in pq.read_table(part).to_pylist()]
    return {row["id"]: np.array(row["flow"], np.float32).reshape(row["height"], row["width"], 2) for row in rows}


def file_of(folder: Path, unit: str, extension: str) -> Path:
    return folder / (unit.replace("#", "/") + extension)


@pytest.fixture(scope="module")
def moving_run(flow_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`flow_run` with motion that turns around the middle of the frame, faster from frame to frame."""

    def turning(row: dict) -> dict:
        y, x = np.mgrid[: row["height"], : row["width"]].astype(np.float32)
        field = np.stack([row["height"] / 2 - y, x - row["width"] / 2], axis=-1) * (1 + row["frame_index"])
        return row | {"flow": field.astype(np.float16).reshape(-1)}

    return example_runs.copied_with_rows(flow_run, tmp_path_factory.mktemp("moving") / "out", turning)


@pytest.mark.parametrize("run", ["flow_run", "moving_run"])
def test_flo_files_equal_the_parquet(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = request.getfixturevalue(run)
    exported = export(open_run(output), str(tmp_path / "flo"), "flo")
    flow = stored_flow(output)
    assert (exported.written, exported.present, exported.rows) == (5, 0, 5) == (len(flow), 0, len(flow))
    for unit, expected in flow.items():
        np.testing.assert_array_equal(read_flo(file_of(tmp_path / "flo", unit, ".flo").read_bytes()), expected)


@pytest.mark.parametrize("run", ["flow_run", "moving_run"])
def test_kitti_files_equal_the_parquet(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = request.getfixturevalue(run)
    exported = export(open_run(output), str(tmp_path / "kitti"), "kitti")
    assert not any("invalid" in note for note in exported.notes)
    for unit, expected in stored_flow(output).items():
        flow, valid = read_kitti(file_of(tmp_path / "kitti", unit, ".png").read_bytes())
        assert valid.all()
        np.testing.assert_allclose(flow, expected, atol=1 / 128, rtol=0)


def test_motion_that_kitti_cannot_hold_is_marked_invalid_and_counted(flow_run: Path, tmp_path: Path) -> None:
    def with_long_motion(row: dict) -> dict:
        return row | {"flow": [600.0, 0.0, 0.0, -513.0, -512.0, 511.5, *row["flow"][6:]]}

    output = example_runs.copied_with_rows(flow_run, tmp_path / "out", with_long_motion)
    exported = export(open_run(output), str(tmp_path / "kitti"), "kitti", ids=["two.mp4#0.000"])
    assert [number for note, number in exported.notes.items() if "marked as invalid" in note] == [2]
    flow, valid = read_kitti((tmp_path / "kitti/two.mp4/0.000.png").read_bytes())
    assert (valid[0, :4].tolist(), int((~valid).sum())) == ([False, False, True, True], 2)
    assert flow[0, 2].tolist() == [-512, 511.5]


def test_frames_of_any_size_are_encoded() -> None:
    for size in [(1, 1), (1, 7), (3, 2), (64, 33)]:
        flow = np.random.default_rng(1).normal(0, 20, (*size, 2)).astype(np.float32)
        np.testing.assert_array_equal(read_flo(encode_flo(flow)), flow)
        data, invalid = encode_kitti(flow)
        assert invalid == 0
        np.testing.assert_allclose(read_kitti(data)[0], flow, atol=1 / 128, rtol=0)


def test_flow_that_is_not_finite_is_invalid_in_kitti() -> None:
    data, invalid = encode_kitti(np.array([[(np.nan, 0), (0, np.inf), (1, 2)]], np.float32))
    assert (invalid, read_kitti(data)[1].tolist()) == (2, [[False, False, True]])


def test_flow_video_has_the_colors_of_each_frame_at_one_scale(moving_run: Path, tmp_path: Path) -> None:
    exported = export(open_run(moving_run), str(tmp_path / "video"), "flow-video")
    assert (exported.written, exported.rows) == (2, 5)
    index = (tmp_path / "video/index.csv").read_text().splitlines()
    assert index[0] == "id,version,frames,frames_per_second,scale_pixels,file"
    one = dict(zip(index[0].split(","), index[1].split(","), strict=True))
    assert (one["id"], one["frames"], one["frames_per_second"]) == ("drives/one.mp4", "3", "25.0")
    with av.open(str(tmp_path / "video" / one["file"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    flow = [flow for unit, flow in stored_flow(moving_run).items() if unit.startswith("drives")]
    expected = [flow_colors(each, float(one["scale_pixels"])) for each in flow]
    for frame, colors in zip(frames, expected, strict=True):
        grey = [0.299, 0.587, 0.114]  # mp4 halves the resolution of colors
        assert np.abs(frame @ grey - colors @ grey).mean() < 6
    assert expected[0].mean() > expected[2].mean() + 20, "slow motion is paler at the common scale"


def test_flow_video_is_in_the_order_of_time_whatever_the_order_of_rows(moving_run: Path, tmp_path: Path) -> None:
    output = example_runs.copied_with_rows(moving_run, tmp_path / "out", dict)
    for part in (output / "predictions").iterdir():
        table, footer = pq.read_table(part), pq.read_metadata(part).metadata[FOOTER]
        with pq.ParquetWriter(part, table.schema) as file:
            file.write_table(table.take(list(range(table.num_rows))[::-1]))
            file.add_key_value_metadata({FOOTER: footer})
    for name, run in {"a": moving_run, "b": output}.items():
        export(open_run(run), str(tmp_path / name), "flow-video")
    for name in ("drives/one.mp4", "two.mp4"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_flow_video_is_made_again_if_the_run_has_more_frames(moving_run: Path, tmp_path: Path) -> None:
    output = example_runs.copied_with_rows(moving_run, tmp_path / "out", dict)
    part = next((output / "predictions").iterdir())
    table, footer = pq.read_table(part), pq.read_metadata(part).metadata[FOOTER]

    def put(rows: pa.Table) -> None:
        with pq.ParquetWriter(part, table.schema) as file:
            file.write_table(rows)
            file.add_key_value_metadata({FOOTER: footer})

    made = []
    for rows in (table.slice(0, 2), table, table):
        put(rows)
        exported = export(open_run(output), str(tmp_path / "video"), "flow-video")
        with av.open(str(tmp_path / "video/drives/one.mp4")) as container:
            made.append((exported.written, exported.present, container.streams.video[0].frames))
    assert made == [(1, 0, 2), (2, 0, 3), (0, 2, 3)]
    index = (tmp_path / "video/index.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in index] == ["frames", "3", "2"]


def test_flow_video_says_that_frames_are_missing(moving_run: Path, tmp_path: Path) -> None:
    whole = export(open_run(moving_run), str(tmp_path / "a"), "flow-video")
    assert not any("lack frames" in note for note in whole.notes)

    def later(row: dict) -> dict:
        return row | {"start_seconds": row["start_seconds"] + (1 if row["id"] == "drives/one.mp4#0.080" else 0)}

    output = example_runs.copied_with_rows(moving_run, tmp_path / "out", later)
    notes = export(open_run(output), str(tmp_path / "b"), "flow-video").notes
    assert [number for note, number in notes.items() if "lack frames" in note] == [1]


def test_flow_video_of_image_files_is_one_per_folder(moving_run: Path, tmp_path: Path) -> None:
    def as_images(row: dict) -> dict:
        name = "walk/a" if row["id"].startswith("drives") else "b"
        return row | {"id": f"{name}/{row['frame_index']:04d}.png", "start_seconds": None}

    output = example_runs.copied_with_rows(moving_run, tmp_path / "out", as_images)
    exported = export(open_run(output), str(tmp_path / "v"), "flow-video")
    assert (tmp_path / "v/walk/a.mp4").exists()
    assert (tmp_path / "v/b.mp4").exists()
    assert [number for note, number in exported.notes.items() if "no times" in note] == [2]


def test_flow_of_points_cannot_be_exported(tmp_path: Path) -> None:
    results = open_run(example_runs.flow_run(tmp_path, points=((1, 2),)))
    for to in ("flo", "kitti", "flow-video"):
        with pytest.raises(UsageError, match="the flow of some points only"):
            export(results, str(tmp_path / "dest"), to)
    assert not (tmp_path / "dest").exists()

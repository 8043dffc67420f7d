"""Optical flow: its colors next to the two frames, with arrows over the first one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.formatting import counted
from pipeline.originals.originals import Absent, Original, UnitRef
from pipeline.originals.preview import FRAME_SIDE, shrink
from pipeline.report.data_uris import jpeg_uri, png_uri, smallest_uri
from pipeline.report.sample import Sample, shard_of, spread
from pipeline.report.shown_text import shown_name
from pipeline.results.flow_colors import flow_colors, typical_length

PAIRS = 6
ARROWS_ACROSS = 12  # of the longer side of a frame
WHEEL_SIDE = 120  # pixels
_HEAD = 0.35  # length of an arrow's head as a share of the arrow


@dataclass(frozen=True, kw_only=True)
class FlowPair:
    """A frame pair and its flow.

    Attributes:
        colors: data URI of the flow's colors; "" if only points were decoded.
        width, height: of the arrows' coordinates.
        arrows: path of the arrows in SVG.
        mean, most: of the motion's length, in pixels.
        factor: by which arrows are longer than the motion.
    """

    unit: UnitRef
    name: str
    colors: str
    width: int
    height: int
    size: tuple[int, int]
    arrows: str
    factor: float
    mean: float
    most: float
    scale: float


@dataclass(frozen=True, kw_only=True)
class FlowSection:
    """Some pairs of a run."""

    note: str
    pairs: Sequence[FlowPair]
    wheel: str

    @property
    def units(self) -> list[UnitRef]:
        """Units whose frames the section shows."""
        return [pair.unit for pair in self.pairs]


def flow_section(sample: Sample, rows_by_shard: Mapping[int, int]) -> FlowSection | None:
    """Return pairs spread evenly over the sample, None if it has no rows."""
    places = [(key, row) for key in sample.parts for row in range(rows_by_shard.get(shard_of(key), 0))]
    pairs = [_pair(row, shard_of(key)) for key, at in spread(places, PAIRS) if (row := _row(sample, key, at))]
    if not pairs:
        return None
    note = f"{len(pairs):,} of {counted(sum(rows_by_shard.values()), 'pair')}, spread evenly over the run."
    return FlowSection(note=note, pairs=pairs, wheel=png_uri(color_wheel()))


def frames_of(original: Original) -> list[str] | str:
    """Return both frames of a pair as data URIs, or why there are none."""
    if isinstance(original, Absent):
        return original.reason
    assert original.frames is not None
    return [jpeg_uri(frame) for frame in original.frames]


def color_wheel() -> np.ndarray:
    """Return the colors of all directions, uint8 [s, s, 4]: slow motion in the middle, transparent outside."""
    axis = np.linspace(-1, 1, WHEEL_SIDE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    pixels = flow_colors(np.stack([x, y], axis=-1), 1.0)
    alpha = np.clip((1 - np.hypot(x, y)) * WHEEL_SIDE / 2, 0, 1) * 255
    return np.concatenate([pixels, alpha[..., None].astype(np.uint8)], axis=-1)


def _row(sample: Sample, key: str, at: int) -> dict[str, Any] | None:
    """Return one row of a part; rows before it are read, batch by batch."""
    columns = [*("id", "uri", "height", "width", "flow"), *(["points"] if sample.has("points") else [])]
    for batch in sample.results.batches(columns=columns, parts=[key]):
        if at < batch.num_rows:
            row = {name: batch.column(name)[at].as_py() for name in columns if name != "flow"}
            return row | {"flow": batch.column("flow")[at].values.to_numpy(zero_copy_only=False).astype(np.float32)}
        at -= batch.num_rows
    return None


def _pair(row: Mapping[str, Any], shard: int) -> FlowPair:
    height, width = row["height"], row["width"]
    vectors = row["flow"].reshape(-1, 2)
    lengths = np.hypot(*vectors.T)
    if row.get("points") is not None:
        points = row["points"]
        starts, colors, scale = np.array(points, np.float32).reshape(-1, 2), "", 0.0
        ends = vectors
    else:
        flow = vectors.reshape(height, width, 2)
        scale = max(typical_length(flow), 1e-6)
        colors = smallest_uri(shrink(flow_colors(flow, scale), FRAME_SIDE))
        starts, ends = _grid(flow)
    spacing = max(height, width) / ARROWS_ACROSS
    longest = float(np.percentile(np.hypot(*ends.T), 95)) if len(ends) else 0.0
    factor = 0.9 * spacing / longest if longest > 1e-6 else 1.0
    shown = min(1.0, FRAME_SIDE / max(height, width))
    return FlowPair(
        unit=UnitRef(row["id"], row["uri"], shard),
        name=shown_name(row["id"]),
        colors=colors,
        width=max(1, round(width * shown)),
        height=max(1, round(height * shown)),
        size=(width, height),
        arrows=_arrows(starts * shown, ends * factor * shown),
        factor=factor,
        mean=float(lengths.mean()),
        most=float(lengths.max()),
        scale=scale,
    )


def _grid(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of square cells [n, 2], x then y, and the mean flow in each [n, 2]."""
    height, width = flow.shape[:2]
    side = max(1, round(max(height, width) / ARROWS_ACROSS))
    starts, means = [], []
    for top in range(0, height - side // 2, side):
        for left in range(0, width - side // 2, side):
            cell = flow[top : top + side, left : left + side]
            starts.append((left + cell.shape[1] / 2, top + cell.shape[0] / 2))
            means.append(cell.reshape(-1, 2).mean(axis=0))
    return np.array(starts, np.float32), np.array(means, np.float32)


def _arrows(starts: np.ndarray, vectors: np.ndarray) -> str:
    """Return the path of arrows that begin at `starts` [n, 2], in SVG: a line each, and two for its head."""
    path = []
    for (x, y), (u, v) in zip(starts.tolist(), vectors.tolist(), strict=True):
        if np.hypot(u, v) < 0.5:  # a dot
            path.append(f"M{x:.1f} {y:.1f}h.01")
            continue
        tip_x, tip_y = x + u, y + v
        left = tip_x - _HEAD * (u + 0.6 * v), tip_y - _HEAD * (v - 0.6 * u)
        right = tip_x - _HEAD * (u - 0.6 * v), tip_y - _HEAD * (v + 0.6 * u)
        path.append(
            f"M{x:.1f} {y:.1f}L{tip_x:.1f} {tip_y:.1f}M{left[0]:.1f} {left[1]:.1f}L{tip_x:.1f} {tip_y:.1f}"
            f"L{right[0]:.1f} {right[1]:.1f}"
        )
    return "".join(path)

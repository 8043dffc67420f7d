"""Optical flow: the displacement of every pixel from a frame to the next one. Paper, "Optical flow" (Sintel, KITTI)."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pipeline.checkpoints import read_config
from pipeline.heads.flow_inputs import PIXEL_BYTES, FlowInputs, tile_batches
from pipeline.heads.flow_tiles import (
    blend_weights,
    check_points,
    points_by_tile,
    tile_corners,
    tile_overlap,
    total_blend_weights,
)
from pipeline.heads.head import JSON, ColumnType, Head, HeadOptions, Model, Tensor, as_tensor
from pipeline.heads.latent_columns import check_latent_count
from pipeline.media import FramePair

PIXELS_PER_UNIT = 20.0  # pixels of displacement per unit of the published model's output


@dataclass(frozen=True, kw_only=True)
class OpticalFlow(FlowInputs, Head):
    """The head of the optical flow model. Tiles are decoded one by one and blended where they overlap.

    Attributes:
        points: pixels (x, y) to decode; () for all.
        flow_scale: pixels of displacement per unit of the model's output.
        array_dtype: type of the flow.
        latent_shape: (N, D) of a tile's latents if they are output, together with the frames, of which the model makes
            its output queries; else None.
    """

    task: ClassVar[str] = "optical-flow"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForOpticalFlow",)
    stored_columns: ClassVar[tuple[str, ...]] = ("frames", "frame_index", "start_seconds")
    points: tuple[tuple[int, int], ...]
    array_dtype: Literal["float16", "float32"]
    flow_scale: float = PIXELS_PER_UNIT
    latent_shape: tuple[int, int] | None

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from config.json.

        Raise CheckpointError if config.json is invalid, and ValueError for options that are not supported for flow.
        """
        options.reject_unsupported(cls.task, "logits", "arrays", "frames", "outputs")
        config = read_config(folder)
        latents = (config.num_latents, config.d_latents) if options.latents else None
        return cls.from_folder(
            folder,
            points=options.points,
            array_dtype=options.array_dtype,
            flow_scale=PIXELS_PER_UNIT if options.flow_scale is None else options.flow_scale,
            latent_shape=latents,
            max_side=options.max_side,
        )

    @property
    def bytes_per_medium_byte(self) -> float:
        """Bytes of flow, and of latents and frames if they are output, per byte of frames larger than a tile."""
        itemsize = np.dtype(self.array_dtype).itemsize
        pixel_bytes = 0.0 if self.points else 2.0 * itemsize
        if self.latent_shape is not None:
            area = np.prod([side - tile_overlap(side) for side in self.tile])  # pixels per tile without the overlap
            pixel_bytes += PIXEL_BYTES + float(np.prod(self.latent_shape) * itemsize / area)
        return max(1.0, pixel_bytes / PIXEL_BYTES)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """frame_index and start_seconds of the first frame; height and width; flow; frames if latents are output.

        flow: displacement in pixels, u then v of each pixel, row by row; with `points` of each point, and the points
        themselves, x then y of each.
        """
        columns: dict[str, ColumnType] = {"frame_index": "int64", "start_seconds": "float64"}
        columns |= {"height": "int32", "width": "int32"}
        columns |= {"points": ["int32"]} if self.points else {}
        columns |= {"flow": [self.array_dtype]}
        return columns | ({"frames": ["png"]} if self.latent_shape is not None else {})

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output."""
        points = [list(point) for point in self.points]
        scale: dict[str, JSON] = {} if self.flow_scale == PIXELS_PER_UNIT else {"flow_scale": self.flow_scale}
        return {**super().fingerprint_options, "points": points, "array_dtype": self.array_dtype, **scale}

    def transform(self, medium: FramePair) -> dict[str, np.ndarray]:
        """Return the arrays of `FlowInputs`. Raise ValueError if a point lies outside the frames, which are reduced."""
        arrays = super().transform(medium)
        check_points(self.points, arrays["frames"].shape[1:3])
        return arrays

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of `transform` for the frames in a row; the model makes its output queries of them."""
        from PIL import Image

        images = (Image.open(io.BytesIO(frame["bytes"]), formats=["PNG"]) for frame in row["frames"])
        frames = np.stack([np.asarray(image.convert("RGB")) for image in images])
        pair = FramePair(frames=frames, frame_index=row["frame_index"], start_seconds=row["start_seconds"])
        return self.transform(pair)

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs and "flow" in pixels, of type `array_dtype`: [B, H, W, 2], or [B, P, 2] of points."""
        check_latent_count(latents, self.latents_per_unit(inputs))
        flow = (self._flow_at_points if self.points else self._flow)(model, latents, inputs["frames"])
        pixels = flow.mul_(self.flow_scale)
        return {"flow": pixels.half() if self.array_dtype == "float16" else pixels, **inputs}

    def rows(self, outputs: dict[str, Any]) -> dict[str, Sequence[Any] | np.ndarray]:
        """Return the columns of a micro-batch."""
        units, _, height, width, _ = outputs["frames"].shape
        rows: dict[str, Sequence[Any] | np.ndarray] = {
            "frame_index": outputs["index"],
            "start_seconds": [None if np.isnan(start) else float(start) for start in outputs["start"]],
            "height": np.full(units, height, np.int32),
            "width": np.full(units, width, np.int32),
        }
        if self.points:
            rows["points"] = np.tile(np.array(self.points, np.int32).reshape(1, -1), (units, 1))
        rows["flow"] = outputs["flow"].cpu().numpy().reshape(units, -1)
        if self.latent_shape is not None:
            rows["frames"] = [list(pair) for pair in outputs["frames"].cpu().numpy()]
        return rows

    def _flow(self, model: Model, latents: Tensor, frames: Tensor) -> Tensor:
        """Return the model's output float32 [B, H, W, 2] for every pixel, with tiles blended."""
        units, _, height, width, _ = frames.shape
        size = max(height, self.tile[0]), max(width, self.tile[1])
        corners = tile_corners(height, width, self.tile).tolist()
        weights = as_tensor(blend_weights(self.tile), frames.device)[..., None]
        blended = weights.new_zeros(units, *size, 2)
        decoded = self._decode_tiles(model, latents, frames, np.arange(units * len(corners)))
        for number, flow in enumerate(decoded):
            unit, (top, left) = number // len(corners), corners[number % len(corners)]
            blended[unit, top : top + self.tile[0], left : left + self.tile[1]] += flow * weights
        blended /= as_tensor(total_blend_weights(size, self.tile), frames.device)[..., None]
        return blended[:, :height, :width]

    def _flow_at_points(self, model: Model, latents: Tensor, frames: Tensor) -> Tensor:
        """Return the model's output float32 [B, P, 2] at the points, each decoded in every tile that covers it."""
        units, _, height, width, _ = frames.shape
        covered = points_by_tile(self.points, (height, width), self.tile)
        tiles = np.arange(units)[:, None] * len(tile_corners(height, width, self.tile)) + covered.tiles
        points, weights = (as_tensor(part, frames.device) for part in (covered.points, covered.weights))
        blended = weights.new_zeros(units, len(self.points), 2)
        pixels = np.tile(covered.pixels, (units, 1))
        for number, flow in enumerate(self._decode_tiles(model, latents, frames, tiles.reshape(-1), pixels)):
            unit, tile = divmod(number, len(covered.tiles))
            blended[unit, points[tile]] += flow * weights[tile, :, None]
        return blended

    def _decode_tiles(
        self, model: Model, latents: Tensor, frames: Tensor, tiles: np.ndarray, pixels: np.ndarray | None = None
    ) -> Iterator[Tensor]:
        """Yield the model's output float32 for each of the tiles: [h, w, 2], or [P, 2] at its `pixels` [t, P]."""
        for batch in tile_batches(np.arange(len(tiles)), frames):
            points = None if pixels is None else as_tensor(pixels[batch])
            patches = self.patches(frames, tiles[batch], model.dtype)
            yield from model.decode(latents[as_tensor(tiles[batch])], points, inputs=patches).float()

"""Optical flow: where every pixel of a frame has moved to in the next one. Paper, section 4.4 (Sintel, KITTI)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from pipeline.heads.flow_inputs import PIXEL_BYTES, FlowInputs, chunks
from pipeline.heads.flow_tiles import check_points, corners, cover, overlap, total_weights, weights
from pipeline.heads.head import JSON, ColumnType, HeadOptions
from pipeline.heads.latent_columns import check_latent_count
from pipeline.media import FramePair

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO

_PIXELS = 20.0  # in one unit of the model's output: what the published model was trained to give


@dataclass(frozen=True, kw_only=True)
class OpticalFlow(FlowInputs):
    """The head of the optical flow model. Tiles are decoded one by one and blended where they overlap.

    points: (x, y) of the pixels to decode; all of them where it is empty. latent_shape: (N, D) of a tile where they are
    kept, and the frames beside them, which the output queries are made of; else None.
    """

    task: ClassVar[str] = "optical-flow"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForOpticalFlow",)
    stored_columns: ClassVar[tuple[str, ...]] = ("frames", "frame_index", "start_seconds")
    points: tuple[tuple[int, int], ...]
    array_dtype: Literal["float16", "float32"]
    latent_shape: tuple[int, int] | None

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> OpticalFlow:
        """The head of a checkpoint in a local folder, from its config.json.

        CheckpointError where the checkpoint is of another class, or its config makes no sense. ValueError for options
        that mean nothing to flow.
        """
        from pipeline.heads.checkpoint_json import check_class
        from pipeline.perceiver.checkpoint_loading import read_config

        check_class(folder, cls.task, cls.model_classes)
        options.reject_unsupported(cls.task, "logits", "arrays", "frames", "outputs")
        config = read_config(folder)
        return cls(
            tile=FlowInputs.from_folder(folder).tile,
            points=options.points,
            array_dtype=options.array_dtype,
            latent_shape=(config.num_latents, config.d_latents) if options.latents else None,
        )

    @property
    def bytes_per_medium_byte(self) -> float:
        """Of frames larger than a tile: the flow, and the latents with the frames where they are kept."""
        itemsize = np.dtype(self.array_dtype).itemsize
        out = 0.0 if self.points else 2.0 * itemsize  # bytes a pixel
        if self.latent_shape is not None:
            own_area = np.prod([side - overlap(side) for side in self.tile])
            out += PIXEL_BYTES + float(np.prod(self.latent_shape) * itemsize / own_area)
        return max(1.0, out / PIXEL_BYTES)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """frame_index and start_seconds of the first frame; height, width; flow in pixels, u then v of each pixel, row
        by row, or of each of `points`, x then y of each; the two frames where latents are kept."""
        columns: dict[str, ColumnType] = {"frame_index": "int64", "start_seconds": "float64"}
        columns |= {"height": "int32", "width": "int32"}
        columns |= {"points": ["int32"]} if self.points else {}
        columns |= {"flow": [self.array_dtype]}
        return columns | ({"frames": ["png"]} if self.latent_shape is not None else {})

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Transform and output options."""
        points = [list(point) for point in self.points]
        return {**super().fingerprint_options, "points": points, "array_dtype": self.array_dtype}

    def transform(self, medium: FramePair) -> dict[str, np.ndarray]:
        """As `FlowInputs` does; ValueError where a point lies outside the frames."""
        check_points(self.points, medium.frames.shape[1:3])
        return super().transform(medium)

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What `transform` gave, from the frames in the row: queries are made of them. ValueError as there."""
        frames = np.stack([_read_png(frame["bytes"]) for frame in row["frames"]])
        return self.transform(
            FramePair(frames=frames, frame_index=row["frame_index"], start_seconds=row["start_seconds"])
        )

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """{"flow": [B, H, W, 2], or [B, P, 2] of points, in pixels and of the rows' type} and the inputs."""
        import torch

        check_latent_count(latents, self.latents_per_unit(inputs))
        frames = inputs["frames"]
        flow = (self._at_points if self.points else self._everywhere)(model, latents, frames)
        return {"flow": flow.mul_(_PIXELS).to(getattr(torch, self.array_dtype)), **inputs}

    def rows(self, outputs: dict[str, Any]) -> dict[str, Sequence[Any] | np.ndarray]:
        """The columns of a micro-batch."""
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

    def _everywhere(self, model: PerceiverIO, latents: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """The model's output float32 [B, H, W, 2] of every pixel, tiles blended."""
        import torch

        units, _, height, width, _ = frames.shape
        size = max(height, self.tile[0]), max(width, self.tile[1])
        begins = corners(height, width, self.tile).tolist()
        weight = torch.from_numpy(weights(self.tile)).to(frames.device)[..., None]
        blended = torch.zeros(units, *size, 2, device=frames.device)
        decoded = self._decoded(model, latents, frames, np.arange(units * len(begins)))
        for number, flow in enumerate(decoded):
            unit, (top, left) = number // len(begins), begins[number % len(begins)]
            blended[unit, top : top + self.tile[0], left : left + self.tile[1]] += flow * weight
        blended /= torch.from_numpy(total_weights(size, self.tile)).to(frames.device)[..., None]
        return blended[:, :height, :width]

    def _at_points(self, model: PerceiverIO, latents: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """The model's output float32 [B, P, 2] at the points, each decoded in every tile that covers it."""
        import torch

        units, _, height, width, _ = frames.shape
        covered = cover(self.points, (height, width), self.tile)
        tiles = np.arange(units)[:, None] * len(corners(height, width, self.tile)) + covered.tiles
        points, weight = (torch.from_numpy(part).to(frames.device) for part in (covered.points, covered.weights))
        blended = torch.zeros(units, len(self.points), 2, device=frames.device)
        decoded = self._decoded(model, latents, frames, tiles.reshape(-1), np.tile(covered.places, (units, 1)))
        for number, flow in enumerate(decoded):
            unit, tile = divmod(number, len(covered.tiles))
            blended[unit, points[tile]] += flow * weight[tile, :, None]
        return blended

    def _decoded(
        self,
        model: PerceiverIO,
        latents: torch.Tensor,
        frames: torch.Tensor,
        tiles: np.ndarray,
        places: np.ndarray | None = None,
    ) -> Iterator[torch.Tensor]:
        """The model's output float32 of each of the tiles: [h, w, 2], or [P, 2] at the places [t, P] in them."""
        import torch

        for some in chunks(np.arange(len(tiles)), frames):
            asked = None if places is None else torch.from_numpy(places[some])
            numbers = tiles[some]
            patches = self.patches(frames, numbers, model.dtype)
            yield from model.decode(latents[torch.from_numpy(numbers)], asked, inputs=patches).float()


def _read_png(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3]."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))

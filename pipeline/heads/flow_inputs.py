"""Pairs of frames as inputs: cut into tiles of the model's size, and each tile into 3×3 patches. Paper, section 4.4."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.flow_tiles import corners, overlap
from pipeline.heads.head import JSON
from pipeline.media import FramePair, MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO

# Tiles that go through the model at a time, so that memory does not grow with frames or their number. One published
# tile is 182,528 inputs: on the CPU more at a time would only take more memory.
TILES_PER_BATCH = {"cpu": 1, "cuda": 8}
PIXEL_BYTES = 6  # of a pair: three colours of two frames
_UNKNOWN_SIDE = 1024  # pixels, where nothing is known of the frames: only an estimate hangs on it
_TRAIN_SIZE = (368, 496)  # PerceiverConfig's default


@dataclass(frozen=True, kw_only=True)
class FlowInputs:
    """A pair of frames as the optical flow model reads it. tile: height and width of what it reads at once.

    A frame larger than a tile is covered by several; a smaller one is filled up with the pixels of its edge.
    """

    medium: ClassVar[MediumKind] = "frame_pair"
    clip_spec: ClassVar[None] = None
    tile: tuple[int, int]

    @classmethod
    def from_folder(cls, folder: Path) -> FlowInputs:
        """As the checkpoint in a local folder reads pairs; CheckpointError where its config.json makes no sense."""
        from pipeline.heads.checkpoint_json import read_checkpoint_json

        return FlowInputs(tile=read_checkpoint_json(folder, "config.json", _tile))

    @property
    def unit_bytes(self) -> int:
        """Bytes of one unit of frames of 1024 × 1024."""
        return round(PIXEL_BYTES * _UNKNOWN_SIDE**2 * self.bytes_per_medium_byte)

    @property
    def bytes_per_medium_byte(self) -> float:
        """1: the frames travel as they are decoded."""
        return 1.0

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """How frames are cut."""
        return {"transform": {"tile": list(self.tile), "overlap": [overlap(side) for side in self.tile]}}

    def transform(self, medium: FramePair) -> dict[str, np.ndarray]:
        """{"frames": uint8 [2, H, W, 3], "index": int64 [1], "start": float64 [1]} of a pair; start is nan for None."""
        start = medium.start_seconds
        return {
            "frames": medium.frames,
            "index": np.array([medium.frame_index], np.int64),
            "start": np.array([np.nan if start is None else start], np.float64),
        }

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Frames of one size."""
        return shapes["frames"][1:3]

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"frames": uint8 [B, 2, H, W, 3] on the device, a quarter of float32's bytes and a 36th of the patches'; and
        on the CPU "index": int64 [B], "start": float64 [B]}."""
        import torch

        return {
            "frames": torch.from_numpy(np.stack(arrays["frames"])).to(device),
            "index": np.concatenate(arrays["index"]),
            "start": np.concatenate(arrays["start"]),
        }

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """How many tiles each pair has."""
        units, _, height, width, _ = inputs["frames"].shape
        return [len(corners(height, width, self.tile))] * units

    def encode(self, model: PerceiverIO, inputs: dict[str, Any]) -> torch.Tensor:
        """Latents [T, N, D] of every tile, those of each pair one after another and row by row."""
        import torch

        frames = inputs["frames"]
        tiles = np.arange(sum(self.latents_per_unit(inputs)))
        return torch.cat([model.encode(self.patches(frames, some, model.dtype)) for some in chunks(tiles, frames)])

    def patches(self, frames: torch.Tensor, tiles: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """What the model reads, [t, 2, 27, h, w] in [-1, 1], of frames uint8 [B, 2, H, W, 3] at the `tiles` int64 [t].

        A tile's number is its place among those of all frames. 27 channels: the 3×3 pixels round each, by row, column
        and colour; what lies outside a tile is 0 there, though the frame may go on: so the model was trained.
        """
        import torch.nn.functional as F

        pixels = self._cut(frames, tiles).float().div_(255).mul_(2).sub_(1).to(dtype)
        padded = F.pad(pixels, (0, 0, 1, 1, 1, 1))
        around = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # [t, 2, h, w, colour, row, column]
        return around.permute(0, 1, 5, 6, 4, 2, 3).reshape(len(tiles), 2, 27, *self.tile)

    def _cut(self, frames: torch.Tensor, tiles: np.ndarray) -> torch.Tensor:
        """uint8 [t, 2, h, w, 3]. A tile that overhangs the frame repeats the frame's last row and column."""
        import torch

        height, width = frames.shape[2:4]
        begins = corners(height, width, self.tile)
        units, places = tiles // len(begins), begins[tiles % len(begins)]
        rows, columns = (
            np.minimum(places[:, axis, None] + np.arange(side), length - 1)
            for axis, (side, length) in enumerate(zip(self.tile, (height, width), strict=True))
        )
        where = (
            units[:, None, None, None],
            np.arange(2)[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None],
        )
        return frames[tuple(torch.from_numpy(index).to(frames.device) for index in where)]


def chunks(tiles: np.ndarray, frames: torch.Tensor) -> list[np.ndarray]:
    """The numbers of tiles, as many at a time as go through the model at once where the frames are."""
    size = TILES_PER_BATCH[frames.device.type]
    return [tiles[begin : begin + size] for begin in range(0, len(tiles), size)]


def _tile(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a tile, by a checkpoint's config; ValueError where they are no numbers of pixels."""
    size = config.get("train_size", _TRAIN_SIZE)
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise ValueError(f"train_size ({size!r}) must be a pair of numbers of pixels, height and width")
    return size[0], size[1]

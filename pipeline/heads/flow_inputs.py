"""Frame pairs as inputs: cut into tiles of the model's size, and tiles into 3×3 patches. Paper, "Optical flow"."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.checkpoints import parse_json
from pipeline.heads.config_values import is_positive_int
from pipeline.heads.flow_tiles import tile_corners, tile_overlap
from pipeline.heads.head import JSON, DType, InputTransform, Model, Tensor, as_tensor
from pipeline.media import FramePair, MediumKind

# Tiles that go through the model at a time, which bounds memory. A published tile has 182,528 inputs: on the CPU, more
# tiles at a time are not faster.
TILES_PER_BATCH = {"cpu": 1, "cuda": 8}
PIXEL_BYTES = 6  # of a pair: three channels of two frames


@dataclass(frozen=True, kw_only=True)
class FlowInputs(InputTransform):
    """Frame pairs for the optical flow model.

    A frame larger than a tile is covered by several; a smaller one is padded with the pixels of its edge.

    Attributes:
        tile: height and width of the frames that the model takes.
        max_side: pixels of the longer side to which larger frames are reduced; None for no limit.
    """

    medium: ClassVar[MediumKind] = "frame_pair"
    tile: tuple[int, int]
    max_side: int | None = None

    @classmethod
    def from_folder(cls, folder: Path, **fields: Any) -> Self:
        """Read the tile size of a checkpoint in a local folder. Raise CheckpointError if config.json is invalid.

        fields: those of a subclass.
        """
        return cls(tile=parse_json(folder, "config.json", _tile), **fields)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a pair of 1024 × 1024 pixels: an estimate before a file is opened."""
        return round(PIXEL_BYTES * 1024**2 * self.bytes_per_medium_byte)

    def passes(self, medium_bytes: int | None) -> float:
        """Return about how many tiles cover a pair of so many bytes; None: as for a pair of 1024 × 1024 pixels."""
        pixels = 1024**2 if medium_bytes is None else medium_bytes / PIXEL_BYTES
        return max(1.0, pixels / math.prod(side - tile_overlap(side) for side in self.tile))

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The size and overlap of tiles, and the limit of the frames' size if there is one."""
        transform: dict[str, JSON] = {"tile": list(self.tile), "overlap": [tile_overlap(side) for side in self.tile]}
        return {"transform": transform if self.max_side is None else {**transform, "max_side": self.max_side}}

    def transform(self, medium: FramePair) -> dict[str, np.ndarray]:
        """Return {"frames": uint8 [2, H, W, 3], "index": int64 [1], "start": float64 [1]}; start is nan if unknown."""
        start = medium.start_seconds
        return {
            "frames": reduce_frames(medium.frames, self.max_side),
            "index": np.array([medium.frame_index], np.int64),
            "start": np.array([np.nan if start is None else start], np.float64),
        }

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Return {"frames": tensor uint8 [B, 2, H, W, 3], "index": array int64 [B], "start": array float64 [B]}.

        Bytes are moved to the device, a 36th of the float32 patches that are made of them there.
        """
        return {
            "frames": as_tensor(np.stack(arrays["frames"])),
            "index": np.concatenate(arrays["index"]),
            "start": np.concatenate(arrays["start"]),
        }

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """Return the number of tiles of each pair."""
        units, _, height, width, _ = inputs["frames"].shape
        return [len(tile_corners(height, width, self.tile))] * units

    def encode(self, model: Model, inputs: dict[str, Any]) -> Tensor:
        """Return latents [T, N, D] of every tile, ordered by pair and then row by row."""
        import torch

        frames = inputs["frames"]
        batches = tile_batches(np.arange(sum(self.latents_per_unit(inputs))), frames)
        return torch.cat([model.encode(self.patches(frames, tiles, model.dtype)) for tiles in batches])

    def patches(self, frames: Tensor, tiles: np.ndarray, dtype: DType) -> Tensor:
        """Return model inputs [t, 2, 27, h, w] in [-1, 1] for `tiles`, int64 [t], of frames uint8 [B, 2, H, W, 3].

        Tiles are numbered through all pairs. The 27 channels are the 3×3 pixels around each one, by row, column and
        color. Pixels outside the tile are 0 even if the frame has pixels there, as in training.
        """
        import torch.nn.functional as F

        pixels = self._cut(frames, tiles).float().div_(255).mul_(2).sub_(1).to(dtype)
        padded = F.pad(pixels, (0, 0, 1, 1, 1, 1))
        neighbours = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # [t, 2, h, w, color, row, column]
        return neighbours.permute(0, 1, 5, 6, 4, 2, 3).reshape(len(tiles), 2, 27, *self.tile)

    def _cut(self, frames: Tensor, tiles: np.ndarray) -> Tensor:
        """Return tiles uint8 [t, 2, h, w, 3]. One that extends beyond the frame repeats its last row and column."""
        height, width = frames.shape[2:4]
        corners = tile_corners(height, width, self.tile)
        units, positions = tiles // len(corners), corners[tiles % len(corners)]
        rows, columns = (
            np.minimum(positions[:, axis, None] + np.arange(side), length - 1)
            for axis, (side, length) in enumerate(zip(self.tile, (height, width), strict=True))
        )
        both = np.arange(2)[:, None, None]
        indices = units[:, None, None, None], both, rows[:, None, :, None], columns[:, None, None]
        return frames[tuple(as_tensor(index, frames.device) for index in indices)]


def reduce_frames(frames: np.ndarray, max_side: int | None) -> np.ndarray:
    """Return frames uint8 [2, H, W, 3] whose longer side has at most `max_side` pixels, with the same proportions.

    Each pixel is the mean of the area that it covers, so that fine patterns do not become false motion.
    """
    height, width = frames.shape[1:3]
    if max_side is None or max(height, width) <= max_side:
        return frames
    from PIL import Image

    factor = max_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def tile_batches(tiles: np.ndarray, frames: Tensor) -> list[np.ndarray]:
    """Split tile numbers into as many at a time as `TILES_PER_BATCH` allows on the device of the frames."""
    size = TILES_PER_BATCH[frames.device.type]
    return [tiles[begin : begin + size] for begin in range(0, len(tiles), size)]


def _tile(config: Mapping[str, Any]) -> tuple[int, int]:
    """Read height and width of a tile from a checkpoint's config. Raise ValueError if they are invalid."""
    size = config.get("train_size", (368, 496))  # the default of transformers' PerceiverConfig
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(is_positive_int, size))):
        raise ValueError(f"train_size ({size!r}) must be a pair of integers of at least 1: height and width in pixels")
    return size[0], size[1]

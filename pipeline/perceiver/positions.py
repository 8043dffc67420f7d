"""Position encodings, Fourier and trained. Paper, appendix D.

`grid` returns the positions [M, channels] of all points of a grid of shape `index_dims`, `at` those at flat indices,
[..., channels] for [...]; both on the device and in the dtype of `like`.

There are two conventions for the coordinates of a grid in [-1, 1], and published checkpoints expect both: inputs run
from -1 to 1 inclusive (`grid`), output queries at given points lie at -1 + 2·i/n (`at`).

Shape letters: M grid points, d dimensions of the grid, P points given by flat indices.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.onednn_linear import Linear


class FourierPositions(nn.Module):
    """Coordinates, and their sines and cosines at `num_bands` frequencies up to the Nyquist frequency of
    `max_resolution`."""

    def __init__(
        self, *, num_bands: int, max_resolution: Sequence[int], concat_pos: bool = True, sine_only: bool = False
    ) -> None:
        super().__init__()
        if not concat_pos:
            raise ValueError("Fourier positions without the coordinates (concat_pos=False) are not supported")
        self.num_bands, self.max_resolution = num_bands, tuple(max_resolution)
        self.dimensions = len(self.max_resolution)
        self.waves = 1 if sine_only else 2
        self.channels = self.dimensions * (1 + num_bands * self.waves)

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:
        axes = [torch.linspace(-1.0, 1.0, n, dtype=torch.float32, device=like.device) for n in index_dims]
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        return self.at_coordinates(coordinates.flatten(0, -2)).to(like.dtype)

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:
        indices = torch.stack(torch.unravel_index(points, tuple(index_dims)), dim=-1)
        coordinates = -1 + 2 * indices / torch.tensor(index_dims, device=points.device)
        return self.at_coordinates(coordinates).to(like.dtype)

    def axis_tables(self, index_dims: Sequence[int], like: Tensor, *, inclusive: bool) -> list[Tensor]:
        """Return the channels that depend on each dimension alone, float32 [n, ·] for its n indices.

        inclusive: follow the convention of `grid` rather than that of `at`.
        """
        tables = []
        for axis, n in enumerate(index_dims):
            coordinates = torch.zeros(n, len(index_dims), device=like.device)
            steps = torch.arange(n, device=like.device)
            coordinates[:, axis] = torch.linspace(-1.0, 1.0, n, device=like.device) if inclusive else -1 + 2 * steps / n
            tables.append(self.at_coordinates(coordinates)[:, self.axis_channels(axis)])
        return tables

    def axis_channels(self, axis: int) -> list[int]:
        """Return the channels that depend on one dimension alone, in the order of its table.

        These are the coordinate, its sines, then its cosines.
        """
        count = self.dimensions
        starts = [count + (wave * count + axis) * self.num_bands for wave in range(self.waves)]
        return [axis, *(start + band for start in starts for band in range(self.num_bands))]

    def at_coordinates(self, coordinates: Tensor) -> Tensor:
        """Return float32 coordinates [..., d] in [-1, 1] and all their sines, then cosines: [..., channels]."""
        if (found := coordinates.shape[-1]) != self.dimensions:
            raise ValueError(f"coordinates have {found} dimensions, but max_resolution has {self.dimensions}")
        device = coordinates.device
        bands = torch.stack([torch.linspace(1.0, n / 2, self.num_bands, device=device) for n in self.max_resolution])
        angles = math.pi * (coordinates[..., None] * bands).flatten(-2)
        return torch.cat([coordinates, torch.sin(angles), torch.cos(angles)][: 1 + self.waves], dim=-1)


class TrainedPositions(nn.Module):
    """One trained vector per point. A square grid of them is interpolated to other image sizes."""

    def __init__(self, *, count: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.table = nn.Parameter(torch.empty(count, channels))

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:  # noqa: ARG002
        trained, wanted = self.table.shape[0], math.prod(index_dims)
        side = math.isqrt(trained)
        if len(index_dims) != 2 or side * side != trained:
            if wanted != trained and not (len(index_dims) == 1 and wanted < trained):
                raise ValueError(f"inputs of shape {tuple(index_dims)} do not fit {trained} trained positions")
            return self.table[:wanted]
        if tuple(index_dims) == (side, side):
            return self.table
        square = self.table.T.reshape(1, self.channels, side, side)
        resized = F.interpolate(square, size=tuple(index_dims), mode="bicubic", align_corners=False)
        return resized.reshape(self.channels, wanted).T

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:  # noqa: ARG002
        return self.table[points]


class ProjectedPositions(nn.Module):
    """Positions mapped linearly to another width."""

    def __init__(self, positions: FourierPositions | TrainedPositions, channels: int) -> None:
        super().__init__()
        self.channels, self.positions = channels, positions
        self.projection = Linear(positions.channels, channels)

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:
        return self.projection(self.positions.grid(index_dims, like))

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:
        return self.projection(self.positions.at(points, index_dims, like))


Positions: TypeAlias = FourierPositions | TrainedPositions | ProjectedPositions

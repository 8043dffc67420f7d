"""Position encodings, Fourier and trained. Paper, appendix D.

Two conventions for where a place lies in [-1, 1], both part of what published checkpoints expect: whole grids run from
-1 to 1 inclusive (`grid`), places asked for one by one lie at -1 + 2·i/n (`at`).
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.onednn_linear import Linear


class Positions(Protocol):
    """What turns places into channels."""

    channels: int

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:
        """[M, channels] for all M = prod(index_dims) places, on the device and in the dtype of `like`."""
        ...

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:
        """[..., channels] for flat indices [...] into a grid of `index_dims`."""
        ...


class FourierPositions(nn.Module):
    """sin and cos of `num_bands` frequencies a dimension, up to the Nyquist frequency of `max_resolution`."""

    def __init__(
        self, *, num_bands: int, max_resolution: Sequence[int], concat_pos: bool = True, sine_only: bool = False
    ) -> None:
        super().__init__()
        if not concat_pos:
            raise ValueError("Fourier positions without the raw positions (concat_pos=False) are not supported")
        self.num_bands = num_bands
        self.max_resolution = tuple(max_resolution)
        self.sine_only = sine_only
        self.channels = len(self.max_resolution) * (1 + num_bands * (1 if sine_only else 2))

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:
        axes = [torch.linspace(-1.0, 1.0, n, dtype=torch.float32, device=like.device) for n in index_dims]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        return self.features(places.flatten(0, -2)).to(like.dtype)

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:
        indices = torch.stack(torch.unravel_index(points, tuple(index_dims)), dim=-1)
        places = -1 + 2 * indices / torch.tensor(index_dims, device=points.device)
        return self.features(places).to(like.dtype)

    @property
    def dimensions(self) -> int:
        """Of a place."""
        return len(self.max_resolution)

    def along(self, index_dims: Sequence[int], like: Tensor, *, whole: bool) -> list[Tensor]:
        """What `grid` (`whole`) or `at` gives, dimension by dimension: float32 [n, 1 + waves], the place and its sines,
        then its cosines, on the device of `like`.

        As many sines and cosines as a grid has places along each side, not as it has in all.
        """
        tables = []
        for number, n in enumerate(index_dims):
            places = torch.zeros(n, len(index_dims), device=like.device)
            steps = torch.arange(n, device=like.device)
            places[:, number] = torch.linspace(-1.0, 1.0, n, device=like.device) if whole else -1 + 2 * steps / n
            tables.append(self.features(places)[:, self.columns(number)])
        return tables

    def columns(self, dimension: int) -> list[int]:
        """Which channels depend on that dimension alone, in the order of `along`."""
        count, waves = len(self.max_resolution), 1 if self.sine_only else 2
        starts = [count + (wave * count + dimension) * self.num_bands for wave in range(waves)]
        return [dimension, *(start + band for start in starts for band in range(self.num_bands))]

    def features(self, places: Tensor) -> Tensor:
        """Places [..., d] in [-1, 1], float32, to [..., channels]: places, sines by dimension, cosines by dimension."""
        if places.shape[-1] != len(self.max_resolution):
            raise ValueError(f"{places.shape[-1]}-dimensional places for {len(self.max_resolution)} resolutions")
        bands = torch.stack(
            [torch.linspace(1.0, n / 2, self.num_bands, device=places.device) for n in self.max_resolution]
        )
        angles = math.pi * (places[..., None] * bands).flatten(-2)
        waves = [torch.sin(angles)] if self.sine_only else [torch.sin(angles), torch.cos(angles)]
        return torch.cat([places, *waves], dim=-1)


class TrainedPositions(nn.Module):
    """One trained vector a place; a square grid of them is interpolated to other image sizes."""

    def __init__(self, *, places: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.table = nn.Parameter(torch.empty(places, channels))

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:  # noqa: ARG002
        places, wanted = self.table.shape[0], math.prod(index_dims)
        side = math.isqrt(places)
        if len(index_dims) != 2 or side * side != places:
            if wanted != places and not (len(index_dims) == 1 and wanted < places):
                raise ValueError(f"{tuple(index_dims)} places asked of {places} trained positions")
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
        self.channels = channels
        self.positions = positions
        self.projection = Linear(positions.channels, channels)

    def grid(self, index_dims: Sequence[int], like: Tensor) -> Tensor:
        return self.projection(self.positions.grid(index_dims, like))

    def at(self, points: Tensor, index_dims: Sequence[int], like: Tensor) -> Tensor:
        return self.projection(self.positions.at(points, index_dims, like))

"""Preprocessors: what a unit is made of, as inputs [B, M, C] with their positions. Paper, appendices D to H.

Each `features` module turns one kind of unit into [B, *index_dims, channels]; `Preprocessor` adds where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.cpu_parallel import joined
from pipeline.perceiver.grid_factorization import Grid
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.tensor_cache import Constant


class Share(NamedTuple):
    """Which of several devices, and how many there are."""

    number: int
    devices: int

    def of(self, count: int) -> slice:
        """Its places, of so many: as many as the others have, but for one that the first ones have more."""
        return slice(-(-count * self.number // self.devices), -(-count * (self.number + 1) // self.devices))


ALL = Share(0, 1)

# Some of the inputs, in order: as they are, or what they are made of.
Piece: TypeAlias = "Tensor | Placed"


def whole(pieces: Sequence[Piece]) -> Tensor:
    """The inputs [B, M, C] of all pieces."""
    return joined([piece if isinstance(piece, Tensor) else piece.inputs() for piece in pieces], dim=1)


class Preprocessor(nn.Module):
    """Features and their positions, side by side (`concat`) or summed (`add`)."""

    def __init__(
        self,
        features: nn.Module,
        positions: FourierPositions | TrainedPositions | ProjectedPositions | None,
        *,
        feature_channels: int,
        add: bool = False,
    ) -> None:
        super().__init__()
        if add and positions is not None and positions.channels != feature_channels:
            raise ValueError(
                f"positions ({positions.channels}) must have as many channels as features ({feature_channels})"
            )
        self.features = features
        self.positions = positions
        self.add = add
        extra = 0 if positions is None or add else positions.channels
        self.channels = feature_channels + extra
        self._positions: Constant[Tensor] = Constant()
        self._grid: Constant[Grid] = Constant()

    def forward(self, units: Tensor) -> Tensor:
        """Inputs [B, M, channels] from a batch of units."""
        return self.placed(units).inputs()

    def placed(self, units: Tensor, share: Share = ALL, padding: Tensor | None = None) -> Placed:
        """What `forward` gives, its positions and `padding` not yet beside the features; one device's share of it."""
        features = self.features(units)
        index_dims = features.shape[1:-1]
        some = share.of(math.prod(index_dims))
        return Placed(self, features.flatten(1, -2)[:, some], tuple(index_dims), some.start, padding)

    def positions_of(self, index_dims: tuple[int, ...], like: Tensor) -> Tensor | None:
        """[M, P] of all places of a grid."""
        positions = self.positions
        if positions is None:
            return None
        return self._positions.get(like, index_dims, lambda: positions.grid(index_dims, like))

    @property
    def waves(self) -> FourierPositions | None:
        """Positions that lie beside the features, and whose channels depend on one dimension each."""
        return self.positions if isinstance(self.positions, FourierPositions) and not self.add else None

    def grid_of(self, index_dims: tuple[int, ...], like: Tensor, padding: Tensor | None, eps: float) -> Grid | None:
        """What all units share of a grid; None where positions are no `waves`."""
        waves = self.waves
        if waves is None:
            return None
        arguments: dict[str, Any] = {"features": self.channels - waves.channels, "padding": padding, "eps": eps}
        return self._grid.get(like, index_dims, lambda: Grid(waves, index_dims, like, whole=True, **arguments))


@dataclass(frozen=True)
class Placed:
    """Features [B, m, F] at the places of a grid from `begin` on, and all that is needed to make inputs of them."""

    preprocessor: Preprocessor
    features: Tensor
    index_dims: tuple[int, ...]
    begin: int = 0
    padding: Tensor | None = None  # constants [1, P] that every input has

    def __getitem__(self, index: tuple[slice, slice]) -> Placed:
        """Of some of the units some of the places, as of a tensor [B, m, C]."""
        return replace(self, features=self.features[index], begin=self.begin + (index[1].start or 0))

    @property
    def shape(self) -> torch.Size:
        """That of `inputs`."""
        padding = 0 if self.padding is None else self.padding.shape[-1]
        return torch.Size([*self.features.shape[:2], self.preprocessor.channels + padding])

    @property
    def dtype(self) -> torch.dtype:
        return self.features.dtype

    @property
    def device(self) -> torch.device:
        return self.features.device

    @property
    def on_grid(self) -> bool:
        """Whether there is a `grid`."""
        return self.preprocessor.waves is not None

    def inputs(self) -> Tensor:
        """[B, m, C]."""
        return self._beside(self.features, slice(self.begin, self.begin + self.features.shape[1]))

    def at(self, points: Tensor) -> Tensor:
        """Inputs [B, P, C] at flat indices [P], or [B, P] where each unit has its own, of which 0 is the first here."""
        if points.ndim == 1:
            return self._beside(self.features[:, points], points + self.begin)
        chosen = self.features.gather(1, points[..., None].expand(-1, -1, self.features.shape[-1]))
        return self._beside(chosen, points + self.begin)

    def grid(self, eps: float) -> Grid | None:
        """What these places share with those of every unit, for a LayerNorm with that epsilon; see `Grid`."""
        return self.preprocessor.grid_of(self.index_dims, self.features, self.padding, eps)

    def _beside(self, features: Tensor, places: Tensor | slice) -> Tensor:
        """[B, P, C] from features [B, P, F] and their places."""
        positions = self.preprocessor.positions_of(self.index_dims, features)
        if positions is not None:
            positions = positions[places]
        if positions is not None and self.preprocessor.add:
            features, positions = features + positions, None
        beside = [x.expand(*features.shape[:-1], -1) for x in (positions, self.padding) if x is not None]
        return torch.cat([features, *beside], dim=-1) if beside else features


class PointwiseConv(nn.Module):
    """Images [B, C, H, W] to [B, H, W, out_channels] by a 1×1 convolution (`conv1x1`)."""

    def __init__(self, *, in_channels: int, out_channels: int, downsample: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=downsample)

    def forward(self, images: Tensor) -> Tensor:
        return self.pointwise(images).movedim(1, -1)


class ConvStem(nn.Module):
    """Images [B, C, H, W] to [B, H/4, W/4, out_channels]: 7×7 convolution, BatchNorm, ReLU, max-pool (`conv`).

    The pool is not padded, so 224 pixels give 55 places.
    """

    def __init__(self, *, in_channels: int, out_channels: int, batchnorm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3, bias=False)
        self.batchnorm = nn.BatchNorm2d(out_channels) if batchnorm else None

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        if self.batchnorm is not None:
            x = self.batchnorm(x)
        return F.max_pool2d(F.relu(x), kernel_size=3, stride=2).movedim(1, -1)

    @torch.no_grad()
    def fold(self) -> None:
        """BatchNorm into the convolution, once, in float64."""
        norm, weight = self.batchnorm, self.conv.weight
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        folded = weight.double() * scale[:, None, None, None]
        self.conv.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
        self.batchnorm = None


class Pixels(nn.Module):
    """Images [B, C, H, W] or videos [B, T, C, H, W], channels last; of videos every n-th frame and pixel."""

    def __init__(self, *, spatial_downsample: int = 1, temporal_downsample: int = 1) -> None:
        super().__init__()
        self.spatial = spatial_downsample
        self.temporal = temporal_downsample

    def forward(self, units: Tensor) -> Tensor:
        if units.ndim == 5:
            return units[:, :: self.temporal, :, :: self.spatial, :: self.spatial].movedim(2, -1)
        if self.spatial != 1:
            raise ValueError(f"images are read pixel by pixel: spatial_downsample ({self.spatial}) must be 1")
        return units.movedim(1, -1)


class Patches(nn.Module):
    """Blocks of space and time as channels, ordered time, row, column, colour; then, where asked, a linear map."""

    def __init__(
        self, *, spatial: int, temporal: int = 1, in_channels: int | None = None, out_channels: int | None = None
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal
        self.linear = None if in_channels is None or out_channels is None else Linear(in_channels, out_channels)

    def forward(self, units: Tensor) -> Tensor:
        s, t = self.spatial, self.temporal
        video = units if units.ndim == 5 else units[:, None]
        blocks = video.unflatten(4, (-1, s)).unflatten(3, (-1, s)).unflatten(1, (-1, t))  # [B, T, t, C, H, s, W, s]
        x = blocks.permute(0, 1, 4, 6, 2, 5, 7, 3).flatten(4)
        if x.shape[1] == 1:
            x = x[:, 0]  # one block in time: an image, or a pair of frames
        return x if self.linear is None else self.linear(x)


class OneHot(nn.Module):
    """Label vectors [B, L] as one place each: [B, 1, L]."""

    def forward(self, labels: Tensor) -> Tensor:
        return labels[:, None, :]


class AudioPatches(nn.Module):
    """Samples [B, S, 1] in [-1, 1] as [B, S / samples_per_patch, samples_per_patch]."""

    def __init__(self, *, samples_per_patch: int) -> None:
        super().__init__()
        self.samples_per_patch = samples_per_patch

    def forward(self, samples: Tensor) -> Tensor:
        return samples.reshape(samples.shape[0], -1, self.samples_per_patch)


class MultimodalPreprocessor(nn.Module):
    """Several kinds of inputs as one sequence, in sorted order of their names, each padded by trained channels.

    `masked` names the parts that inference always replaces by their trained mask token (a label to be predicted), with
    the number of places each has: they need not be given.
    """

    def __init__(
        self, parts: Mapping[str, Preprocessor], *, min_padding: int, masked: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.channels = max(part.channels for part in parts.values()) + min_padding
        self.parts = nn.ModuleDict(parts)
        self.padding = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(1, self.channels - part.channels)) for name, part in parts.items()}
        )
        self.masked = dict(masked or {})
        self.mask = nn.ParameterDict({name: nn.Parameter(torch.empty(1, self.channels)) for name in self.masked})

    def forward(self, units: Mapping[str, Tensor]) -> Tensor:
        """Inputs [B, M, channels] from the units of each part."""
        return whole(self.pieces(units))

    def pieces(self, units: Mapping[str, Tensor], share: Share = ALL) -> list[Piece]:
        """The same part by part, of the inputs of each only those of one device."""
        if missing := self.parts.keys() - self.masked.keys() - units.keys():
            raise ValueError(f"inputs lack {sorted(missing)}: this model reads {sorted(self.parts)}")
        batch = max(x.shape[0] for x in units.values())
        pieces: list[Piece] = []
        for name in sorted(self.parts):
            if name in self.masked:
                some = share.of(self.masked[name])
                pieces.append(self.mask[name].expand(batch, some.stop - some.start, -1))
                continue
            part = self.parts[name]
            assert isinstance(part, Preprocessor)
            pieces.append(part.placed(units[name], share, self.padding[name]))
        return pieces

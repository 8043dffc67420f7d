"""Preprocessors: what a unit is made of, as inputs [B, M, C] with their positions. Paper, appendices D to H.

Each `features` module turns one kind of unit into [B, *index_dims, channels]; `Preprocessor` adds where they lie.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.constants import Constant
from pipeline.perceiver.linear import Linear
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions


class Share(NamedTuple):
    """Which of several devices, and how many there are."""

    number: int
    devices: int

    def of(self, count: int) -> slice:
        """Its places, of so many: as many as the others have, but for one that the first ones have more."""
        return slice(-(-count * self.number // self.devices), -(-count * (self.number + 1) // self.devices))


ALL = Share(0, 1)


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
        self._grid = Constant()

    def forward(self, units: Tensor) -> Tensor:
        """Inputs [B, M, channels] from a batch of units."""
        return self.share(units, ALL)

    def share(self, units: Tensor, share: Share) -> Tensor:
        """Of the inputs only those of one device."""
        features, positions = self.parts(units)
        some = share.of(features.shape[1])
        return self.combine(features[:, some], None if positions is None else positions[some])

    def parts(self, units: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, M, F] and positions [M, P], not yet put together."""
        features = self.features(units)
        index_dims = features.shape[1:-1]
        flat = features.flatten(1, -2)
        if self.positions is None:
            return flat, None
        positions = self.positions
        return flat, self._grid.get(flat, index_dims, lambda: positions.grid(index_dims, flat))

    def at(self, parts: tuple[Tensor, Tensor | None], points: Tensor) -> Tensor:
        """Inputs [B, P, channels] at flat indices [P], or [B, P] where each unit has its own, from `parts`."""
        features, positions = parts
        if points.ndim == 1:
            return self.combine(features[:, points], None if positions is None else positions[points])
        chosen = features.gather(1, points[..., None].expand(-1, -1, features.shape[-1]))
        return self.combine(chosen, None if positions is None else positions[points])

    def combine(self, features: Tensor, positions: Tensor | None) -> Tensor:
        """[B, P, channels] from features [B, P, F] and positions [P, ·] or [B, P, ·]."""
        if positions is None:
            return features
        if self.add:
            return features + positions
        return torch.cat([features, positions.expand(*features.shape[:-1], -1)], dim=-1)


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
        return self.share(units, ALL)

    def share(self, units: Mapping[str, Tensor], share: Share) -> Tensor:
        """Of the inputs of each part only those of one device."""
        if missing := self.parts.keys() - self.masked.keys() - units.keys():
            raise ValueError(f"inputs lack {sorted(missing)}: this model reads {sorted(self.parts)}")
        batch = max(x.shape[0] for x in units.values())
        pieces = []
        for name in sorted(self.parts):
            if name in self.masked:
                some = share.of(self.masked[name])
                pieces.append(self.mask[name].expand(batch, some.stop - some.start, -1))
                continue
            part = self.parts[name]
            assert isinstance(part, Preprocessor)
            x = part.share(units[name], share)
            pieces += [torch.cat([x, self.padding[name].expand(*x.shape[:-1], -1)], dim=-1)]
        return torch.cat(pieces, dim=1)

"""Preprocessors: from a batch of units to the inputs [B, M, C] of the encoder. Paper, appendices D to H.

Inputs stay split into parts, and positions apart from features, until they are needed together: attention over a grid
does without the concatenation, see `grid_factorization`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from pipeline.perceiver.batching import concat
from pipeline.perceiver.grid_factorization import FactoredGrid
from pipeline.perceiver.positions import FourierPositions, Positions
from pipeline.perceiver.tensor_cache import TensorCache

# Some of the inputs, [B, m, C], as a tensor or as features whose positions are added later.
InputPart: TypeAlias = "Tensor | PositionedFeatures"


def to_inputs(parts: Sequence[InputPart]) -> Tensor:
    """Return all parts as one tensor of inputs [B, M, C]."""
    return concat([part if isinstance(part, Tensor) else part.inputs() for part in parts], dim=1)


@dataclass(frozen=True)
class PositionedFeatures:
    """Features [B, m, F] of the grid points from `begin` on, with all that is needed to make inputs [B, m, C] of them.

    source: the preprocessor whose positions they get. padding: constants [1, ·] that end every input.
    """

    features: Tensor
    source: Preprocessor
    index_dims: tuple[int, ...]
    begin: int = 0
    padding: Tensor | None = None

    def __getitem__(self, index: tuple[slice, slice]) -> PositionedFeatures:
        """Select units and grid points, as from a tensor [B, m, C]."""
        return replace(self, features=self.features[index], begin=self.begin + (index[1].start or 0))

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the inputs, (B, m, C)."""
        padding = 0 if self.padding is None else self.padding.shape[-1]
        return torch.Size([*self.features.shape[:2], self.source.channels + padding])

    def grid(self, eps: float) -> FactoredGrid | None:
        """Return the factored grid of these points for a LayerNorm with epsilon `eps`; None if there is none."""
        fourier, width = self.source.factorable, self.source.feature_channels
        if fourier is None:
            return None

        def factor() -> FactoredGrid:
            return FactoredGrid(
                fourier, self.index_dims, self.features, inclusive=True, features=width, padding=self.padding, eps=eps
            )

        return self.source.grids.get(self.features, self.index_dims, factor)

    def inputs(self) -> Tensor:
        """Return the inputs [B, m, C]."""
        return self._complete(self.features, slice(self.begin, self.begin + self.features.shape[1]))

    def at(self, points: Tensor) -> Tensor:
        """Return inputs [B, P, C] at flat indices [P], or [B, P] per unit, counted from `begin`."""
        if points.ndim == 1:
            return self._complete(self.features[:, points], points + self.begin)
        chosen = self.features.gather(1, points[..., None].expand(-1, -1, self.features.shape[-1]))
        return self._complete(chosen, points + self.begin)

    def _complete(self, features: Tensor, points: Tensor | slice) -> Tensor:
        """Add positions and padding to features [B, P, F] of the given grid points."""
        table = self._position_table()
        extra = [] if self.padding is None else [self.padding]
        if table is not None and self.source.add:
            features = features + table[points]
        elif table is not None:
            extra.insert(0, table[points])
        return concat([features, *(x.expand(*features.shape[:-1], -1) for x in extra)], dim=-1)

    def _position_table(self) -> Tensor | None:
        """Return the positions [M, ·] of all points of the grid; None if there are none."""
        positions = self.source.positions
        if positions is None:
            return None
        return self.source.tables.get(
            self.features, self.index_dims, lambda: positions.grid(self.index_dims, self.features)
        )


class Preprocessor(nn.Module):
    """Features of one kind of input, with their positions concatenated or added (`add`)."""

    def __init__(
        self, features: nn.Module, positions: Positions | None, *, feature_channels: int, add: bool = False
    ) -> None:
        super().__init__()
        if add and positions is not None and positions.channels != feature_channels:
            raise ValueError(
                f"positions ({positions.channels}) must have as many channels as features ({feature_channels})"
            )
        self.features, self.positions, self.add = features, positions, add
        self.feature_channels = feature_channels
        self.channels = feature_channels + (0 if positions is None or add else positions.channels)
        # The positions of all points of one grid, and its factored form.
        self.tables: TensorCache[Tensor] = TensorCache()
        self.grids: TensorCache[FactoredGrid] = TensorCache()

    def forward(self, units: Tensor) -> Tensor:
        """Return inputs [B, M, channels]."""
        return self.part(units).inputs()

    def part(self, units: Tensor, padding: Tensor | None = None) -> PositionedFeatures:
        """Return the inputs with their positions and `padding` [1, ·] not yet concatenated."""
        features = self.features(units)
        return PositionedFeatures(features.flatten(1, -2), self, tuple(features.shape[1:-1]), padding=padding)

    @property
    def factorable(self) -> FourierPositions | None:
        """Return positions whose grid can be factored: concatenated, each channel a function of one dimension."""
        return self.positions if isinstance(self.positions, FourierPositions) and not self.add else None


class MultimodalPreprocessor(nn.Module):
    """Several kinds of input in one sequence, in sorted order of their names, each padded by trained channels.

    masked: kinds that inference always replaces by their trained mask token (a label to predict), with the number of
    inputs of each. They may be missing from the units.
    """

    def __init__(
        self, modalities: Mapping[str, Preprocessor], *, min_padding: int, masked: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.channels = max(modality.channels for modality in modalities.values()) + min_padding
        self.modalities = cast("Mapping[str, Preprocessor]", nn.ModuleDict(modalities))
        widths = {name: self.channels - modality.channels for name, modality in modalities.items()}
        self.padding = nn.ParameterDict({name: nn.Parameter(torch.empty(1, n)) for name, n in widths.items()})
        self.masked = dict(masked or {})
        self.mask = nn.ParameterDict({name: nn.Parameter(torch.empty(1, self.channels)) for name in self.masked})

    def forward(self, units: Mapping[str, Tensor]) -> Tensor:
        """Return inputs [B, M, channels] from the units of each modality."""
        return to_inputs(self.parts(units))

    def parts(self, units: Mapping[str, Tensor]) -> list[InputPart]:
        """Return the inputs of each modality, positions not yet concatenated."""
        if missing := self.modalities.keys() - self.masked.keys() - units.keys():
            raise ValueError(f"inputs lack {sorted(missing)}: this model reads {sorted(self.modalities)}")
        batch = max(x.shape[0] for x in units.values())
        return [
            self.mask[name].expand(batch, self.masked[name], -1)
            if name in self.masked
            else modality.part(units[name], self.padding[name])
            for name, modality in sorted(self.modalities.items())
        ]

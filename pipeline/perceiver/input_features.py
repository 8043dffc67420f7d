"""Features of one kind of input, [B, *index_dims, channels], before positions are added. Paper, appendices D to H."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.perceiver.onednn_linear import Linear


class PointwiseConv(nn.Module):
    """Images [B, C, H, W] to [B, H, W, out_channels] by a 1×1 convolution (`conv1x1` in transformers)."""

    def __init__(self, *, in_channels: int, out_channels: int, downsample: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=downsample)

    def forward(self, images: Tensor) -> Tensor:
        return self.pointwise(images).movedim(1, -1)


class ConvStem(nn.Module):
    """Images [B, C, H, W] to [B, H/4, W/4, out_channels]: 7×7 convolution, BatchNorm, ReLU, max-pool (`conv`).

    The pool is not padded: 224 pixels give 55 points.
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
        """Fold BatchNorm into the convolution, in float64."""
        if self.batchnorm is not None:
            dtype = self.conv.weight.dtype
            self.conv = fuse_conv_bn_eval(self.conv.double(), self.batchnorm.double()).to(dtype)
            self.batchnorm = None


class Pixels(nn.Module):
    """Pixels of images [B, C, H, W] or videos [B, T, C, H, W], channels last.

    Videos may be downsampled to every n-th pixel and frame.
    """

    def __init__(self, *, spatial_downsample: int = 1, temporal_downsample: int = 1) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial_downsample, temporal_downsample

    def forward(self, units: Tensor) -> Tensor:
        if units.ndim == 5:
            return units[:, :: self.temporal, :, :: self.spatial, :: self.spatial].movedim(2, -1)
        if self.spatial != 1:
            raise ValueError(f"spatial_downsample ({self.spatial}) must be 1 for images, whose every pixel is an input")
        return units.movedim(1, -1)


class Patches(nn.Module):
    """Blocks of images [B, C, H, W] or videos [B, T, C, H, W], with an optional linear map.

    A block's values are its channels, in the order time, row, column, color.
    """

    def __init__(
        self, *, spatial: int, temporal: int = 1, in_channels: int | None = None, out_channels: int | None = None
    ) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
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
    """Label vectors [B, L] as one input each, [B, 1, L]."""

    def forward(self, labels: Tensor) -> Tensor:
        return labels[:, None, :]


class AudioPatches(nn.Module):
    """Audio [B, S, 1], values in [-1, 1], as [B, S / samples_per_patch, samples_per_patch]."""

    def __init__(self, *, samples_per_patch: int) -> None:
        super().__init__()
        self.samples_per_patch = samples_per_patch

    def forward(self, samples: Tensor) -> Tensor:
        return samples.reshape(samples.shape[0], -1, self.samples_per_patch)

"""From the attended values of a decoder to its outputs, by products of weights formed at load time.

After the attention a decoder computes y = W o + b from the attended values o [V], then A (y + W₂ act(W₁ LN(y))), where
W₁, W₂ and A are affine maps, A the product of all that follow. A W₂ is one matrix, as narrow as the output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.perceiver.affine import Affine, make_linear
from pipeline.perceiver.attention_layers import MLP
from pipeline.perceiver.grid_factorization import alignment_padding
from pipeline.perceiver.onednn_linear import Float32Linear, Linear

FEW_OUTPUTS = 16  # up to which the last map is computed in float32


class FoldedTail(nn.Module):
    """A (y + W₂ act(W₁ LN(y))) with A W₂ in one matrix.

    With `attention_out` the attended values are o; without it they are [y; A y], see `append_output`.
    """

    def __init__(self, mlp: MLP, after: Affine, attention_out: Affine | None, like: Tensor) -> None:
        super().__init__()
        self.norm, self.up, self.activation = mlp.norm, mlp.up, mlp.activation
        self.outputs, self.width = after.weight.shape
        kind = Float32Linear if self.outputs <= FEW_OUTPUTS else Linear
        self.attention_out = self.direct = None
        if attention_out is not None:
            self.attention_out = make_linear(*attention_out, like)
            self.direct = make_linear(after.weight, None, like, kind)
        self.down = make_linear(*after.after(Affine.of(mlp.down)), like, kind)

    def forward(self, attended: Tensor) -> Tensor:
        """Return outputs [B, P, out] from attended values [B, P, V]."""
        if self.attention_out is None or self.direct is None:
            y, direct = attended[..., : self.width], attended[..., self.width : self.width + self.outputs]
        else:
            y = self.attention_out(attended)
            direct = self.direct(y)
        return self.down(self.up(self.norm(y), activation=self.activation), residual=direct)


class NarrowFoldedTail(nn.Module):
    """The same outputs without forming y, for attended values o [V] that are narrower than y.

    LayerNorm's mean is linear in [o; 1], so W₁ LN(y) = M [o; 1] / σ + u, and σ² = |R [o; 1]|² / width with R from a QR
    decomposition of the centred [W, b].
    """

    def __init__(self, mlp: MLP, after: Affine, attention_out: Affine, like: Tensor) -> None:
        super().__init__()
        self.activation, self.width, self.eps = mlp.activation, len(attention_out.weight), mlp.norm.eps
        joint = torch.cat([attention_out.weight, attention_out.bias[:, None]], dim=1)
        centred = joint - joint.mean(dim=0)
        up, scale = Affine.of(mlp.up), mlp.norm.weight.double()
        root = torch.linalg.qr(centred, mode="r").R
        self.root_rows = len(root)
        self.root_and_direct = make_linear(_pad_columns(torch.cat([root, after.weight @ joint])), None, like)
        hidden = (up.weight * scale) @ centred
        self.up = make_linear(_pad_columns(hidden), up.weight @ mlp.norm.bias.double() + up.bias, like)
        self.down = make_linear(*after.after(Affine.of(mlp.down)), like)

    def forward(self, attended: Tensor) -> Tensor:
        """Return outputs [B, P, out] from [o; 1; 0 …], [B, P, V + 1 and padding], see `append_one`."""
        both = self.root_and_direct(attended)
        root, direct = both[..., : self.root_rows], both[..., self.root_rows :]
        square = torch.linalg.vector_norm(root, dim=-1, keepdim=True, dtype=torch.float32).square()
        x = attended * torch.rsqrt(square / self.width + self.eps).to(attended.dtype)
        return self.down(self.up(x, activation=self.activation), residual=direct)


def append_output(values: Affine, after: Affine) -> Affine:
    """Return the map to [y; A y; 0 …] for a map to y, padded to an aligned width.

    Attended by itself, A y is rounded once; A applied to a rounded y loses digits where large terms cancel.
    """
    direct = Affine(after.weight, torch.zeros_like(after.bias)).after(values)
    return _pad_rows(Affine(torch.cat([values.weight, direct.weight]), torch.cat([values.bias, direct.bias])), 0)


def append_one(values: Affine) -> Affine:
    """Return the map to [o; 1; 0 …] for a map to o, padded to an aligned width.

    The weights of softmax sum to 1, so the attended value of the constant channel is 1.
    """
    padded = _pad_rows(values, 1)
    padded.bias[len(values.bias)] = 1
    return padded


def _pad_rows(values: Affine, extra: int) -> Affine:
    """Add `extra` outputs that are 0, and more up to an aligned width."""
    rows = extra + alignment_padding(len(values.bias) + extra)
    return Affine(F.pad(values.weight, (0, 0, 0, rows)), F.pad(values.bias, (0, rows)))


def _pad_columns(weight: Tensor) -> Tensor:
    """Add columns of zeros up to an aligned width."""
    return F.pad(weight, (0, alignment_padding(weight.shape[1])))

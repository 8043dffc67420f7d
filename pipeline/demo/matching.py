"""Initial weights with which the flow model compares both frames at many displacements at once.

Each latent stands for one displacement. It reads what the first frame shows at nine places minus half the displacement,
and what the second frame shows at these places plus the other half: one head per place and frame. Its MLP adds up how
far both differ at each place. All outputs then attend to the latents of least difference and take their displacement.

Without these weights a small model does not learn in hours to find displacements of more than a pixel. With them it is
right within a pixel before the training, which then corrects what such a search cannot do: turning and growing content,
displacements between those of latents, tiles of little contrast.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 24
"""Pixels along a side of the tile."""

DISPLACEMENTS = 11  # per axis
REACH = 6.0  # pixels of the largest displacement along an axis
_PLACES = 3  # per axis
_SPAN = 5.0  # pixels from the middle of the tile to the outermost places
_BLUR = 1.5  # pixels of standard deviation of what is read at a place
_FEATURES = 4  # of a frame at a place: slopes of brightness and of redness, to the right and down
_WAVES = 8  # cosine and sine of two frequencies along both axes
HEADS = 2 * _PLACES**2
"""Heads of the encoder's cross-attention: one per place and frame."""
CHANNELS = HEADS * _WAVES
"""Channels of a latent, and of queries, keys and values."""

# The channels of a latent: waves of half the displacement, the displacement over REACH and a constant; these negated,
# so that the mean is 0 for layer norms; at all places the differences, the first frame's features, and the costs.
_OWN = _WAVES + 3
_COUNT = _FEATURES * _PLACES**2
_DIFFERENCES = slice(2 * _OWN, 2 * _OWN + _COUNT)
_CONTENT = slice(_DIFFERENCES.stop, _DIFFERENCES.stop + _COUNT)
_COSTS = slice(_CONTENT.stop, _CONTENT.stop + _PLACES**2)

_GAIN = 8.0  # of features: slopes of brightness are small
_STEADY = 12.0  # two constants among a pixel's channels; with them a layer norm divides by nearly the same everywhere
_STEEP = 20.0  # how soon a difference counts in proportion, not by its square
_DECIDED = 15.0  # the greater, the more the latent of least cost outweighs others
_RADIUS = (SIDE - 1) / 2  # pixels from the middle of the tile to the middle of the outermost
_FREQUENCIES = torch.tensor([1.0, 1 + 3 * 11 / 63])  # half turns over _RADIUS: the first and fourth band of the inputs


@torch.no_grad()
def start_matching(model: Any) -> None:
    """Set initial weights in place."""
    core = model.perceiver
    displacements = _square(torch.linspace(-REACH, REACH, DISPLACEMENTS))
    _own_channels(core.embeddings.latents, displacements)
    _features(core.input_preprocessor.conv_after_patches)
    cross = core.encoder.cross_attention
    blank, _, _ = core.input_preprocessor(torch.zeros(1, 2, 27, SIDE, SIDE))
    _look_at_places(cross.attention.self, core.embeddings.latents, displacements, blank[0])
    _compare(cross.attention.output.dense)
    (read,) = cross.attention(core.embeddings(1), inputs=blank)  # of which nothing must remain: it has no differences
    core.embeddings.latents[:, _DIFFERENCES.start : _CONTENT.stop] -= read[0, :, _DIFFERENCES.start : _CONTENT.stop]
    _add_differences(cross.mlp)
    for layer in core.encoder.self_attends:
        _quieten(0.05, layer.attention.output.dense, layer.mlp.dense2)
    decoder = core.decoder.decoder
    _choose_least_cost(decoder.decoding_cross_attention.attention)
    _take_ratio(decoder.decoding_cross_attention.mlp, decoder.final_layer)


def _square(along_axis: Tensor) -> Tensor:
    """Return all pairs [N * N, 2], x then y."""
    return torch.stack(torch.meshgrid(along_axis, along_axis, indexing="xy"), dim=-1).reshape(-1, 2)


def _waves(places: Tensor) -> Tensor:
    """Return cosines and sines [..., _WAVES] of places [..., 2] in pixels from the middle of the tile."""
    angles = math.pi * places[..., None] / _RADIUS * _FREQUENCIES
    return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(-2)


def _fit(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the linear map from rows [N, A] to rows [N, B] that has the least squared error."""
    extended = torch.cat([given, torch.ones(len(given), 1)], dim=1).double()
    ridge = 1e-6 * len(given) * torch.eye(extended.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(extended.T @ extended + ridge, extended.T @ wanted.double()).float()
    return solution[:-1].T, solution[-1]


def _quieten(factor: float, *layers: nn.Linear) -> None:
    """Scale weights, so that what a layer was drawn to do is small beside what it is set to do."""
    for layer in layers:
        layer.weight.mul_(factor)


def _own_channels(latents: Tensor, displacements: Tensor) -> None:
    own = torch.cat([_waves(displacements / 2), displacements / REACH, torch.ones(len(displacements), 1)], dim=1)
    latents.mul_(0.02)
    latents[:, :_OWN], latents[:, _OWN : 2 * _OWN] = own, -own


def _features(patches: nn.Linear) -> None:
    """Let the inputs begin with the features of the first frame at a pixel, then with those of the second one."""
    slopes = torch.zeros(_FEATURES, 3, 3, 3)  # row, column, color
    for number, colors in ((0, torch.tensor([1.0, 1.0, 1.0])), (2, torch.tensor([3.0, -1.5, -1.5]))):
        slopes[number, :, 2], slopes[number, :, 0] = colors / 9, -colors / 9
        slopes[number + 1, 2, :], slopes[number + 1, 0, :] = colors / 9, -colors / 9
    kernels, pixels = _GAIN * slopes.flatten(1), patches.weight.shape[1] // 2
    _quieten(0.1, patches)
    patches.weight[: 2 * _FEATURES] = 0
    patches.weight[:_FEATURES, :pixels] = kernels
    patches.weight[_FEATURES : 2 * _FEATURES, pixels:] = kernels
    patches.weight[-2:] = 0
    patches.bias[-2:] = torch.tensor([_STEADY, -_STEADY])


def _look_at_places(attention: Any, latents: Tensor, displacements: Tensor, blank: Tensor) -> None:
    """Let each head read the features of one frame around one place, displaced by half of a latent's displacement."""
    inputs = attention.layernorm2(blank)
    content = 2 * _FEATURES
    scale = blank.var(dim=1, unbiased=False).mean().sqrt()  # that a layer norm divides by
    known, own = inputs[:, content:], attention.layernorm1(latents)
    key = _fit(known, _waves(_square(torch.arange(SIDE) - _RADIUS)))
    level = _fit(known, -scale * inputs[:, :1])  # a layer norm also shifts content, at each place differently
    sharp = (math.sqrt(_WAVES) / 2 * (_RADIUS / (math.pi * _BLUR * _FREQUENCIES)) ** 2).repeat(_WAVES // 2)
    for layer in (attention.query, attention.key):
        _quieten(0.0, layer)
    _quieten(0.1, attention.value)
    places = _square(torch.linspace(-_SPAN, _SPAN, _PLACES))
    for head in range(HEADS):
        frame, rows = head % 2, slice(head * _WAVES, (head + 1) * _WAVES)
        centres = places[head // 2] + (frame - 0.5) * displacements
        attention.query.weight[rows], attention.query.bias[rows] = _fit(own, sharp * _waves(centres))
        attention.key.weight[rows, content:], attention.key.bias[rows] = key
        values, first = attention.value.weight[rows][:_FEATURES], frame * _FEATURES
        values.zero_()
        values[:, first : first + _FEATURES] = scale * torch.eye(_FEATURES)
        values[:, content:] = level[0]
        attention.value.bias[rows][:_FEATURES] = level[1]


def _compare(output: nn.Linear) -> None:
    """Let latents receive the differences of both frames' features at each place, and half those of the first one."""
    _quieten(0.02, output)
    output.weight[: 2 * _OWN] = 0
    output.weight[_DIFFERENCES.start : _COSTS.stop] = 0
    heads = output.weight.view(len(output.weight), _PLACES**2, 2, _WAVES)  # channel, place, frame, feature
    differences = heads[_DIFFERENCES].view(_PLACES**2, _FEATURES, _PLACES**2, 2, _WAVES)
    content = heads[_CONTENT].view(_PLACES**2, _FEATURES, _PLACES**2, 2, _WAVES)
    for place in range(_PLACES**2):
        for feature in range(_FEATURES):
            differences[place, feature, place, :, feature] = torch.tensor([1.0, -1.0])
            content[place, feature, place, 0, feature] = 0.5


def _add_differences(mlp: Any) -> None:
    """Let the cost of a place be the sum of its absolute differences, each as GELU(x) + GELU(-x)."""
    _quieten(0.1, mlp.dense1)
    _quieten(0.05, mlp.dense2)
    number = torch.arange(_COUNT)
    mlp.dense1.weight[: 2 * _COUNT] = 0
    mlp.dense2.weight[:, : 2 * _COUNT] = 0
    mlp.dense2.weight[_COSTS] = 0
    for first, sign in ((0, 1.0), (_COUNT, -1.0)):
        mlp.dense1.weight[first + number, _DIFFERENCES.start + number] = sign * _STEEP
        mlp.dense2.weight[_COSTS.start + number // _FEATURES, first + number] = 1 / _STEEP


def _choose_least_cost(attention: Any) -> None:
    """Let every output attend to latents of least cost, and receive displacement and constant of these.

    A layer norm has divided both by the deviation of their latent, which grows with contrast; not so their ratio.
    """
    inner, output, places = attention.self, attention.output.dense, _PLACES**2
    _quieten(0.02, inner.query)
    _quieten(0.1, inner.key, inner.value)
    inner.query.weight[:places] = 0
    inner.query.bias[:places] = -_DECIDED * math.sqrt(CHANNELS) / places
    inner.key.weight[:places] = 0
    inner.key.weight[torch.arange(places), torch.arange(places) + _COSTS.start] = 1
    inner.value.weight[:3] = 0
    for row in range(3):  # x, y, constant
        inner.value.weight[row, _WAVES + row], inner.value.weight[row, _OWN + _WAVES + row] = 0.5, -0.5
    _quieten(0.01, output)
    output.weight[:4] = 0
    output.weight[torch.arange(4), torch.tensor([0, 1, 2, 2])] = torch.tensor([1.0, 1.0, 2.0, -2.0])


def _take_ratio(mlp: Any, final: nn.Linear) -> None:
    """Let the MLP, after its layer norm by the constant, pass the displacement on as output, in units of 20 pixels."""
    small, offset = 0.3, 6.0  # where GELU is nearly the identity
    _quieten(0.1, mlp.dense1)
    _quieten(0.02, mlp.dense2, final)
    deviation = math.sqrt(2 * 2.0**2 / mlp.dense1.weight.shape[1])  # of the two constants among all channels
    for axis in range(2):
        mlp.dense1.weight[axis] = 0
        mlp.dense1.weight[axis, axis], mlp.dense1.bias[axis] = small, offset
        mlp.dense2.weight[:, axis] = 0
        mlp.dense2.weight[4 + axis] = 0
        mlp.dense2.weight[4 + axis, axis], mlp.dense2.bias[4 + axis] = 1 / small, -offset / small
        final.weight[axis] = 0
        final.weight[axis, 4 + axis] = 100 / 20 * REACH * deviation

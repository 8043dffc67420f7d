"""Attention along the rows of a grid equals attention to inputs with concatenated positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO, folded_output, grid_factorization, partial_attention
from pipeline.perceiver.affine import standardise
from pipeline.perceiver.batching import even_slices
from pipeline.perceiver.grid_factorization import FactoredGrid, column_first_order
from pipeline.perceiver.input_features import Pixels
from pipeline.perceiver.positions import FourierPositions
from pipeline.perceiver.preprocessors import PositionedFeatures, Preprocessor
from pipeline.reference import published_configs
from pipeline.reference.parity import differences, engine_predict
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs

EPS = 1e-5
ON_GRIDS = (published_configs.FOURIER, published_configs.CONV, published_configs.FLOW, published_configs.MULTIMODAL)


def preprocessor(dims: int, sine_only: bool = False) -> Preprocessor:
    resolution = (9, 14, 5)[:dims]
    positions = FourierPositions(num_bands=3, max_resolution=resolution, sine_only=sine_only)
    return Preprocessor(Pixels() if dims > 1 else torch.nn.Identity(), positions, feature_channels=4)


def input_part(
    dims: int, share: tuple[int, int], *, padding: torch.Tensor | None = None, sine_only: bool = False
) -> PositionedFeatures:
    """Return share (number, count) of the inputs of two random units."""
    torch.manual_seed(0)
    units = torch.randn(2, *{1: (30, 4), 2: (4, 7, 11), 3: (3, 4, 6, 5)}[dims], dtype=torch.float64)
    part = preprocessor(dims, sine_only).part(units, padding)
    number, count = share
    return part[:, even_slices(part.shape[1], count)[number]]


@pytest.mark.parametrize("share", [(0, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("group_points", [1, 20, 2048])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("sine_only", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_scores_equal_those_of_normalized_inputs(
    dims: int, sine_only: bool, padded: bool, group_points: int, share: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(grid_factorization.MIN_GROUP_POINTS, "cpu", group_points)
    padding = torch.randn(1, 6, dtype=torch.float64) if padded else None
    some = input_part(dims, share, padding=padding, sine_only=sine_only)
    x = standardise(some.inputs(), EPS)
    queries = torch.randn(8, x.shape[-1], dtype=torch.float64)
    centred = queries - queries.mean(dim=-1, keepdim=True)
    grid = some.grid(EPS)
    assert grid is not None
    found, done = torch.empty(2, 8, x.shape[1], dtype=torch.float64), 0
    ordered = centred[:, grid.order]
    for group, q in grid.factors(ordered, some.begin, some.begin + x.shape[1]):
        assert group.end > group.begin
        here = slice(group.begin - some.begin, group.end - some.begin)
        keys = grid.points(group, some.features[:, here], q)
        assert keys.shape[-1] % grid_factorization.ALIGN == 0
        found[..., here] = q @ keys.mT
        done += keys.shape[1]
    assert done == x.shape[1]
    # Positions are computed in float32, one by one or side by side.
    torch.testing.assert_close(found, queries @ x.mT, rtol=1e-5, atol=1e-5)


def test_every_channel_belongs_to_columns_or_rows() -> None:
    positions = FourierPositions(num_bands=3, max_resolution=(4, 5, 6))
    order = column_first_order(positions, features=2, channels=2 + positions.channels + 3)
    column, row = order[:9], order[9:]
    assert sorted(order) == list(range(2 + 21 + 3))
    assert column[:3] == [0, 1, 4]
    grid = torch.stack([torch.arange(2 * 3 * 4)] * 1)
    table = positions.at(grid, (2, 3, 4), torch.zeros(()))[0].unflatten(0, (6, 4))
    along = [channel - 2 for channel in column if channel >= 2]
    across = [channel - 2 for channel in row if channel < 2 + 21]
    assert torch.equal(table[..., along], table[:1, :, along].expand(6, -1, -1))
    assert torch.equal(table[..., across], table[:, :1, across].expand(-1, 4, -1))


def test_positions_without_features_are_those_requested() -> None:
    positions = FourierPositions(num_bands=3, max_resolution=(9, 14))
    padding = torch.randn(1, 5, dtype=torch.float64)
    arguments: dict[str, Any] = {"inclusive": False, "padding": padding, "eps": EPS}
    grid = FactoredGrid(positions, (6, 8), torch.zeros((), dtype=torch.float64), **arguments)
    points = torch.tensor([0, 47, 13, 13])
    at = torch.cat([positions.at(points, (6, 8), padding), padding.expand(4, -1)], dim=-1)
    expected = at * torch.rsqrt(at.var(dim=-1, correction=0, keepdim=True) + EPS)
    found = grid.at(points)[:, torch.tensor(grid.order).argsort()]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model_class", ON_GRIDS)
@pytest.mark.parametrize(("group_points", "at_once"), [(8, False), (8, True), (1 << 15, True)])
def test_groups_of_rows_and_units_at_once_change_nothing(
    model_class: str, group_points: int, at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU path: all units in one product, and larger groups."""
    config = published_configs.small(model_class)
    folder = str(make_checkpoint(model_class, config, tmp_path / "checkpoint"))
    inputs = sample_inputs(config, model_class, 3, 0)
    expected = engine_predict(PerceiverIO.from_pretrained(folder, fold=False), inputs)
    monkeypatch.setitem(grid_factorization.MIN_GROUP_POINTS, "cpu", group_points)
    if at_once:
        monkeypatch.setattr(partial_attention, "_one_matrix_at_a_time", lambda _: False)
    several: Any = ShardedPerceiverIO.from_pretrained(folder, devices=["cpu"] * 3)
    for model in (PerceiverIO.from_pretrained(folder), several):
        for row in differences(engine_predict(model, inputs), expected, "float32"):
            assert row.relative < 5e-6, row


def test_mask_hides_positions_of_a_grid(tmp_path: Path) -> None:
    config = published_configs.small(published_configs.FOURIER)
    folder = str(make_checkpoint(published_configs.FOURIER, config, tmp_path / "checkpoint"))
    images = torch.as_tensor(sample_inputs(config, published_configs.FOURIER, 3, 0))
    mask = torch.rand(3, 400, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[2] = False  # all hidden: finite, whatever it is
    plain, folded = (PerceiverIO.from_pretrained(folder, fold=fold) for fold in (False, True))
    found, expected = folded.encode(images, mask), plain.encode(images, mask)
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-4, atol=1e-5)
    assert found.isfinite().all()


def test_position_that_is_not_finite_stays_visible(tmp_path: Path) -> None:
    config = published_configs.small(published_configs.FLOW)
    folder = str(make_checkpoint(published_configs.FLOW, config, tmp_path / "checkpoint"))
    frames = torch.as_tensor(sample_inputs(config, published_configs.FLOW, 2, 0)).clone()
    frames[1, 0, 3, 5, 7] = float("nan")
    flow = PerceiverIO.from_pretrained(folder)(frames)
    assert flow[0].isfinite().all()
    assert flow[1].isnan().all()


@pytest.mark.parametrize(
    ("points", "runs"),
    [
        ([*range(5, 305)], [(5, 305)]),
        ([*range(300), *range(700, 1000)], [(0, 300), (700, 1000)]),
        ([*range(700, 1000), *range(300)], [(700, 1000), (0, 300)]),
        ([*range(255)], []),  # too few
        ([*range(0, 600, 2)], []),  # none follows another
        ([], []),
    ],
)
def test_runs_of_points(points: list[int], runs: list[tuple[int, int]]) -> None:
    assert folded_output._consecutive_runs(torch.tensor(points, dtype=torch.int64)) == runs
    assert folded_output._consecutive_runs(torch.tensor([points], dtype=torch.int64)) == []


@pytest.mark.parametrize("model_class", [published_configs.FLOW, published_configs.MULTIMODAL])
def test_runs_are_decoded_like_points(model_class: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = published_configs.small(
        model_class, **({"d_latents": 256} if model_class == published_configs.MULTIMODAL else {})
    )
    folder = str(make_checkpoint(model_class, config, tmp_path / "checkpoint"))
    inputs = sample_inputs(config, model_class, 2, 0)
    model = PerceiverIO.from_pretrained(folder)
    latents, run = model.encode(inputs), torch.tensor([*range(200, 330), *range(3, 160)])
    points: Any = {"image": run} if model_class == published_configs.MULTIMODAL else run
    monkeypatch.setattr(folded_output, "MIN_RUN", 100)
    rows = model.decode(latents, points, inputs=inputs)
    monkeypatch.setattr(folded_output, "MIN_RUN", 1 << 30)
    scattered = model.decode(latents, points, inputs=inputs)
    if model_class == published_configs.MULTIMODAL:
        rows, scattered = rows["image"], scattered["image"]
    torch.testing.assert_close(rows, scattered, rtol=1e-4, atol=1e-6)

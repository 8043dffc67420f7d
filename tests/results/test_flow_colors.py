"""Flow as colors: equal to the color code of the Middlebury benchmark."""

import numpy as np
import pytest

from pipeline.results.flow_colors import color_wheel, flow_colors, typical_length


def test_directions_have_the_colors_of_the_benchmark() -> None:
    right, down, left, up, still = flow_colors(np.array([[(2, 0), (0, 2), (-2, 0), (0, -2), (0, 0)]], np.float32), 2)[0]
    expected = [(255, 0, 0), (255, 229, 0), (0, 208, 255), (88, 0, 255), (255, 255, 255)]
    np.testing.assert_allclose(np.array([right, down, left, up, still], int), expected, atol=1)


def test_the_wheel_has_the_55_colors_of_the_benchmark() -> None:
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    for place, color in {
        0: (255, 0, 0),
        15: (255, 255, 0),
        21: (0, 255, 0),
        25: (0, 255, 255),
        36: (0, 0, 255),
    }.items():
        assert tuple(wheel[place]) == color
    assert tuple(wheel[49]) == (255, 0, 255)
    assert tuple(wheel[10]) == (255, 170, 0)


def test_shorter_motion_is_paler_and_longer_motion_than_the_scale_is_darker() -> None:
    half, full, beyond = flow_colors(np.array([[(1, 0), (2, 0), (3, 0)]]), 2)[0].astype(int)
    assert half[1] == 127
    assert full[1] == 0
    assert tuple(beyond) == (191, 0, 0)


def test_colors_are_those_of_the_formula_of_the_benchmark() -> None:
    flow = np.random.default_rng(0).normal(0, 2, (50, 60, 2))
    length, turn = np.hypot(flow[..., 0], flow[..., 1]) / 3, np.arctan2(-flow[..., 1], -flow[..., 0]) / np.pi
    place = (turn + 1) / 2 * 54
    below, wheel = np.floor(place).astype(int), color_wheel() / 255
    hue = wheel[below] + (place - below)[..., None] * (wheel[(below + 1) % 55] - wheel[below])
    expected = np.where((length <= 1)[..., None], 1 - length[..., None] * (1 - hue), hue * 0.75)
    np.testing.assert_allclose(flow_colors(flow, 3).astype(int), np.floor(255 * expected), atol=1)


def test_motion_that_is_not_finite_is_black_and_a_scale_of_zero_is_white() -> None:
    flow = np.array([[(np.nan, 0), (np.inf, 1), (0, 0)]], np.float32)
    assert flow_colors(flow, 1)[0].tolist() == [[0, 0, 0], [0, 0, 0], [255, 255, 255]]
    assert flow_colors(np.zeros((2, 3, 2), np.float16), 0).tolist() == [[[255, 255, 255]] * 3] * 2


def test_typical_length_ignores_outliers() -> None:
    flow = np.zeros((20, 20, 2))
    flow[..., 0], flow[0, 0] = 3, (4000, 3000)
    assert typical_length(flow) == pytest.approx(3)
    assert typical_length(np.full((2, 2, 2), np.nan)) == 0

"""Letters that the demo checkpoint is trained on: they look like scikit-learn's digits, and none is a digit."""

from __future__ import annotations

import torch

from pipeline.demo.drawn_letters import CAPITALS, FONTS, HELD_OUT_FONTS, LETTERS, SIDE, Pen, draw_letters
from pipeline.demo.letters import contrastive_loss
from tests.labelling.digit_images import PIXELS


def test_every_font_has_every_letter_and_no_digit() -> None:
    letters, numbers = draw_letters(FONTS)
    assert numbers[: len(LETTERS)].tolist() == list(range(len(LETTERS)))
    assert len(letters) == len(FONTS) * len(LETTERS)
    assert LETTERS.isalpha()
    assert LETTERS.startswith(CAPITALS)
    for font, drawn in zip(FONTS, letters.split(len(LETTERS)), strict=True):  # all missing ones have the same box
        assert len(drawn.unique(dim=0)) == len(LETTERS), font
    assert not set(FONTS) & set(HELD_OUT_FONTS)


def test_drawings_are_counts_of_ink_as_the_digits_are() -> None:
    letters, _ = draw_letters(HELD_OUT_FONTS)
    drawn = 16 * Pen(0).draw(letters)
    assert drawn.shape == (len(letters), 1, SIDE, SIDE)
    assert set(drawn.unique().tolist()) <= set(PIXELS.flatten().tolist())
    assert abs(float(drawn.mean()) - PIXELS.mean()) < 1
    assert (drawn.amax((1, 2, 3)) >= 8).all()


def test_a_pen_draws_differently_each_time_and_the_same_from_its_seed() -> None:
    letters, _ = draw_letters(HELD_OUT_FONTS)
    pen = Pen(0)
    first, second = pen.draw(letters), pen.draw(letters)
    assert not torch.equal(first, second)
    assert torch.equal(first, Pen(0).draw(letters))


def test_vectors_of_one_label_that_are_alike_cost_little() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    alike, mixed = torch.eye(3).repeat(2, 1), torch.eye(3).repeat_interleave(2, dim=0)
    assert contrastive_loss(alike, labels) < 0.01
    assert contrastive_loss(mixed, labels) > 1

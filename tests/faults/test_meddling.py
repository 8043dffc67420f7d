"""Runs while somebody changes files of INPUT and OUTPUT: exact, or ended in words and exact after --repair."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.storage import Store
from tests.faults.meddling import ROUNDS_OF_AN_OUTPUT, Hand, Meddled, MeddledOnRay, meddle


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [(4, 1), (4, 2), *(pytest.param(ROUNDS_OF_AN_OUTPUT, seed, marks=pytest.mark.slow) for seed in range(3, 22))],
)
def test_every_run_is_exact_or_ends_in_words(
    rounds: int, seed: int, tmp_path: Path, checkpoint: Path, described_cluster: None
) -> None:
    meddle(Meddled(hand_in(str(tmp_path), seed), checkpoint), rounds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_on_ray_and_s3(seed: int, s3, checkpoint: Path) -> None:
    meddle(MeddledOnRay(hand_in(s3.bucket("meddled"), seed), checkpoint), ROUNDS_OF_AN_OUTPUT)


def hand_in(folder: str, seed: int) -> Hand:
    return Hand(random.Random(seed), Store(f"{folder}/out"), Store(f"{folder}/in"))

"""The 1,797 digits of scikit-learn with shipped checkpoints: wrong labels are found, and a queue saves labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.labelling.features import read_features
from pipeline.labelling.label_queue import next_to_label
from pipeline.labelling.probe import fit_probe
from pipeline.results import open_run
from tests import example_runs
from tests.labelling.digit_images import DIGITS, write_digits

pytestmark = pytest.mark.slow  # all digits are predicted three times, and some hundred probes are fitted
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUTPUTs: `labels` of a classification, `features` of embeddings, `letters` of those of letters' checkpoint."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "in")
    example_runs.run("image-classification", folder / "in", folder / "labels", Path("demo"))
    example_runs.run("feature-extraction", folder / "in", folder / "features", Path("demo"))
    example_runs.run("feature-extraction", folder / "in", folder / "letters", Path("demo:letters"))
    return folder


@pytest.mark.parametrize("run", ["labels", "features", "letters"])
@pytest.mark.parametrize("seed", SEEDS)
def test_four_of_five_wrong_labels_are_in_the_first_tenth(folder: Path, tmp_path: Path, run: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    swapped = chance.permutation(len(DIGITS))[: round(0.05 * len(DIGITS))]
    known = DIGITS.copy()
    known[swapped] = (known[swapped] + chance.integers(1, 10, len(swapped))) % 10
    lines = (f"{number:04d}.png,{label}\n" for number, label in enumerate(known))
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(lines))
    ranked = open_run(folder / run).mistakes(tmp_path / "labels.csv")
    first = {int(name.removesuffix(".png")) for name in ranked["id"].to_pylist()[: len(DIGITS) // 10]}
    found = len(first & set(swapped.tolist())) / len(swapped)
    print(f"{run}, seed {seed}: {found:.1%} of {len(swapped)} wrong labels are in the first tenth")
    assert found >= 0.8


@pytest.mark.parametrize("run", ["features", "letters"])
@pytest.mark.parametrize("seed", range(5))
def test_queue_needs_fewer_labels_than_random_choice(folder: Path, run: str, seed: int) -> None:
    results = open_run(folder / run)
    _, features = read_features(results.batches(["id", "embedding"]), "mean")
    chance = np.random.default_rng(seed)

    def predict(labelled: np.ndarray) -> np.ndarray:
        names = [str(digit) for digit in DIGITS[labelled]]
        probe = fit_probe(features[labelled], names, pooling="mean", checkpoint="", facts={}).probe
        return probe.logits(torch.from_numpy(features)).softmax(dim=1).numpy()

    wanted = _accuracy(predict(chance.permutation(len(DIGITS))[:100]))
    labelled = np.concatenate([chance.permutation(np.flatnonzero(digit == DIGITS))[:3] for digit in range(10)])
    while _accuracy(scores := predict(labelled)) < wanted:
        assert len(labelled) < 100
        best = np.sort(scores, axis=1)
        others = np.setdiff1d(np.arange(len(DIGITS)), labelled)
        uncertainty = 1 - (best[others, -1] - best[others, -2])
        labelled = np.append(labelled, others[next_to_label(uncertainty, features[others], 10)])
    print(f"{run}, seed {seed}: {len(labelled)} labels of a queue are worth 100 of random units, accuracy {wanted:.1%}")


def _accuracy(scores: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == DIGITS).mean())

"""Statistics of two raters of the same units: Cohen's kappa, and McNemar's test of two shares."""

import numpy as np


def cohens_kappa(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Cohen's kappa of two ratings int64 [n]: 1 for full agreement, 0 for what chance gives.

    None if it is undefined: both rate all units the same. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960.
    """
    size = int(max(a.max(), b.max())) + 1
    observed = float(np.mean(a == b))
    expected = float((np.bincount(a, minlength=size) / len(a)) @ (np.bincount(b, minlength=size) / len(b)))
    return None if expected == 1 else (observed - expected) / (1 - expected)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided p value of McNemar's exact test that both are right equally often.

    only_a, only_b: number of units of which only one of them is right. If both are equally good, each of these units is
    as likely one as the other, so that their number has a binomial distribution.
    """
    units, fewer = only_a + only_b, min(only_a, only_b)
    if units == 0:
        return 1.0
    steps = np.arange(fewer, dtype=np.float64)
    # log of C(units, k) for k from 0 to `fewer`, each from the one before: the numbers themselves have no place.
    logs = np.concatenate([[0.0], np.cumsum(np.log((units - steps) / (steps + 1)))]) - units * np.log(2)
    return min(1.0, 2 * float(np.exp(np.logaddexp.reduce(logs))))

"""Fit a linear probe: multinomial logistic regression on stored features, by scikit-learn. It is deterministic."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.formatting import counted, first_of, percent
from pipeline.heads.pooling import Pooling
from pipeline.heads.probe import Probe
from pipeline.labelling.extra import require_extra
from pipeline.labelling.metrics import calibration_error, reliability_bins, wilson_interval
from pipeline.runtime.errors import UsageError

FOLDS = 5
FEWEST = 3  # units per label: two of them to fit and to choose the regularization with, while one is held out
STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # scikit-learn's C, of standardized features
MAX_SEARCHED = 5_000  # units among which the regularization is chosen
MAX_NESTED = 5_000  # units whose predictions are all held out; of more, a fifth is held out once
MAX_LABELS = 10_000
MAX_ITERATIONS = 2_000


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A probe, and what it is worth.

    Attributes:
        probe: the probe, fitted to all units.
        known: int64 [n], the number of the label of each unit.
        held_out: int64 [m], numbers of the units that a probe predicted that had not seen them.
        probabilities: float32 [m, K] of these.
        accuracy, accuracy_interval: of these; the interval at 95 % is Wilson's.
        calibration_error: expected calibration error of these.
        strength: the inverse regularization C that was chosen.
        temperature: by which the logits are divided.
        notes: what was assumed.
    """

    probe: Probe
    known: np.ndarray
    held_out: np.ndarray
    probabilities: np.ndarray
    accuracy: float
    accuracy_interval: tuple[float, float]
    calibration_error: float
    strength: float
    temperature: float
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return sentences for people."""
        low, high = self.accuracy_interval
        return [
            f"accuracy {percent(self.accuracy)} of {counted(len(self.held_out), 'held-out unit')} "
            f"(95 % interval {percent(low)} to {percent(high)}), expected calibration error "
            f"{percent(self.calibration_error)}",
            *self.notes,
        ]


def fit_probe(
    features: np.ndarray, known: Sequence[str], *, pooling: Pooling, checkpoint: str, facts: dict[str, Any]
) -> Fitted:
    """Fit a probe.

    The regularization is chosen by cross-validation. The accuracy is that of nested cross-validation: each unit is
    predicted by a probe that neither saw it nor was chosen with it. The probabilities are calibrated by one
    temperature, fitted to the same held-out predictions.

    Args:
        features: float32 [n, F], finite.
        known: The label of each unit.
        pooling: How the features were made.
        checkpoint: Digest of the checkpoint of the features.
        facts: More for the description of the probe.

    Raises:
        UsageError: There are fewer than two labels, more than 10,000, or fewer than three units of one.
    """
    require_extra("probes")
    names, codes = np.unique(np.asarray(known, dtype=object).astype(str), return_inverse=True)
    _check_labels(names, np.bincount(codes))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held_out = _held_out(codes)
        numbers, logits = _held_out_logits(features, codes, held_out, len(names))
        searched = _chosen(features, codes)
        coefficients, intercepts = _linear(searched["model"], len(names))
    temperature = _temperature(logits, codes[numbers])
    probabilities = _softmax(logits / temperature)
    right = probabilities.argmax(axis=1) == codes[numbers]
    interval = wilson_interval(int(right.sum()), len(right))
    error = calibration_error(reliability_bins(probabilities.max(axis=1), right))
    notes = _notes(caught, searched["C"], len(codes), len(numbers))
    described = {
        "units": len(codes),
        "accuracy": round(float(right.mean()), 6),
        "accuracy_interval": [round(each, 6) for each in interval],
        "held_out": len(numbers),
        "calibration_error": round(error, 6),
        "C": searched["C"],
        "temperature": temperature,
        **facts,
    }
    probe = Probe(
        labels=tuple(names.tolist()),
        pooling=pooling,
        weight=np.ascontiguousarray(coefficients / temperature, np.float32),
        bias=np.ascontiguousarray(intercepts / temperature, np.float32),
        checkpoint=checkpoint,
        facts=described,
    )
    return Fitted(
        probe=probe,
        known=codes,
        held_out=numbers,
        probabilities=probabilities.astype(np.float32),
        accuracy=float(right.mean()),
        accuracy_interval=interval,
        calibration_error=error,
        strength=searched["C"],
        temperature=temperature,
        notes=notes,
    )


def _check_labels(names: np.ndarray, counts: np.ndarray) -> None:
    if len(names) < 2:
        raise UsageError(f"all labelled units have the label {str(names[0])!r}: a probe needs at least two labels")
    if len(names) > MAX_LABELS:
        raise UsageError(
            f"there are {len(names):,} labels, and a probe has at most {MAX_LABELS:,}: is it the right column?"
        )
    rare = [f"{str(name)!r} ({count})" for name, count in zip(names, counts, strict=True) if count < FEWEST]
    if rare:
        raise UsageError(
            f"a probe needs at least {FEWEST} units of each label; fewer have {first_of(rare, 5)}: label more of them, "
            "or leave these labels out of the file"
        )


def _held_out(codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the numbers of units to fit to and to predict: all folds, or one split of many units."""
    from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

    nothing = np.zeros(len(codes))
    if len(codes) > MAX_NESTED and len(codes) // FOLDS >= len(np.unique(codes)):
        return list(StratifiedShuffleSplit(1, test_size=1 / FOLDS, random_state=0).split(nothing, codes))
    return list(StratifiedKFold(_folds(codes), shuffle=True, random_state=0).split(nothing, codes))


def _held_out_logits(
    features: np.ndarray, codes: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]], labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the held-out units, and their logits float64 [m, K]."""
    numbers, logits = [], []
    for fitted, held in splits:
        coefficients, intercepts = _linear(_chosen(features[fitted], codes[fitted])["model"], labels)
        numbers.append(held)
        logits.append(features[held] @ coefficients.T + intercepts)
    return np.concatenate(numbers), np.concatenate(logits)


def _chosen(features: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """Return the model fitted to the units, and the C with the best log loss in cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    some, their = features, codes
    if len(codes) > MAX_SEARCHED:
        some, _, their, _ = train_test_split(features, codes, train_size=MAX_SEARCHED, stratify=codes, random_state=0)
    folds = StratifiedKFold(_folds(their), shuffle=True, random_state=0)
    search = GridSearchCV(
        model, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss", cv=folds, refit=False, error_score="raise"
    )
    search.fit(some, their)
    strength = float(search.best_params_["logisticregression__C"])
    return {"C": strength, "model": model.set_params(logisticregression__C=strength).fit(features, codes)}


def _folds(codes: np.ndarray) -> int:
    return max(2, min(FOLDS, int(np.bincount(codes)[np.unique(codes)].min())))


def _linear(model: Any, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [K, F] and intercepts [K] of a fitted pipeline, for features that are not standardized."""
    scaler, regression = model[0], model[1]
    weights, intercepts = regression.coef_, regression.intercept_
    if labels == 2:  # one logit, of the second label
        weights, intercepts = np.concatenate([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    weights = weights / scaler.scale_
    return weights, intercepts - weights @ scaler.mean_


def _temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """Return the temperature that gives held-out predictions the least log loss."""
    from scipy.optimize import minimize_scalar

    def loss(power: float) -> float:
        scaled = logits / np.exp(power)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(codes)), codes]))

    found = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _notes(caught: Sequence[Any], strength: float, units: int, held_out: int) -> list[str]:
    """Return what is worth knowing about the fit."""
    notes = []
    if held_out < units:
        notes.append(f"of {units:,} units a fifth was held out once, not each in turn")
    if units > MAX_SEARCHED:
        notes.append(f"the regularization was chosen among {MAX_SEARCHED:,} of them")
    if strength in (STRENGTHS[0], STRENGTHS[-1]):
        notes.append(f"the best regularization, C = {strength:g}, is at the end of the range that was tried")
    kinds = {each.category.__name__ for each in caught}
    if "ConvergenceWarning" in kinds:
        notes.append(f"some fits did not converge in {MAX_ITERATIONS:,} steps")
    return notes

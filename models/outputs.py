"""From a graph's output to an answer: probabilities, conformal sets and intervals. Numpy, applied by both sides.

Axes: N windows, K levels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Calibration

Floats = NDArray[np.float64]


class PainAnswer(NamedTuple):
    """One window's pain: the likeliest level, the mean index, all probabilities, and the conformal set."""

    level: str
    expected: float
    probabilities: dict[str, float]
    conformal_set: list[str] | None


class ValueAnswer(NamedTuple):
    """One window's valence or arousal in [-1, 1] with its conformal interval."""

    value: float
    interval: tuple[float, float] | None


def corn_probabilities(logits: NDArray[np.generic]) -> Floats:
    """Level probabilities (N, K) of CORN's conditional logits (N, K - 1).

    Logit j is that of P(y > j | y > j - 1), so P(y > j) is a running product
    (Shi, Cao & Raschka, arXiv 2111.08851, eq. 5).

    >>> corn_probabilities(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.25, 0.25]]
    """
    halves = 0.5 * np.asarray(logits, np.float64)
    conditional = 0.5 * (1.0 + np.tanh(halves))  # (N, K-1), a sigmoid that cannot overflow
    above = np.cumprod(conditional, axis=1)  # (N, K-1): P(y > j)
    edges = np.concatenate([np.ones((len(above), 1)), above, np.zeros((len(above), 1))], axis=1)
    probabilities: Floats = edges[:, :-1] - edges[:, 1:]  # (N, K)
    return probabilities


def pain_scores(probabilities: Floats, levels: NDArray[np.integer]) -> Floats:
    """Conformity scores (N,): 1 - the probability of the true level (Sadinle, Lei & Wasserman, arXiv 1609.00451)."""
    scores: Floats = 1.0 - probabilities[np.arange(len(levels)), levels]
    return scores


def value_scores(values: Floats, truth: Floats) -> Floats:
    """Conformity scores of one output (N,): the absolute error."""
    return np.abs(values - truth)


def conformal_quantile(scores: Floats, confidence_level: float) -> float | None:
    """The ceil((n + 1)·level)-th smallest score; None if n scores are too few for the level.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.arange(8.0), 0.9)
    (9.0, None)
    """
    rank = int(np.ceil((len(scores) + 1) * confidence_level - 1e-9))
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else None


def answer_pain(
    logits: NDArray[np.generic], levels: tuple[str, ...], calibration: Calibration
) -> list[PainAnswer | None]:
    """One answer per row of `logits` (N, K - 1); None where the output is not finite."""
    quantile = calibration.quantiles["pain"]
    return [
        _pain(probabilities, levels, quantile) if np.isfinite(row).all() else None
        for row, probabilities in zip(np.asarray(logits, np.float64), corn_probabilities(logits), strict=True)
    ]


def answer_affect(
    values: NDArray[np.generic], calibration: Calibration
) -> list[tuple[ValueAnswer, ValueAnswer] | None]:
    """(valence, arousal) per row of `values` (N, 2); None where the output is not finite."""
    low_high = calibration.quantiles["valence"], calibration.quantiles["arousal"]
    return [
        (_value(row[0], low_high[0]), _value(row[1], low_high[1])) if np.isfinite(row).all() else None
        for row in np.asarray(values, np.float64)
    ]


def _pain(probabilities: Floats, levels: tuple[str, ...], quantile: float | None) -> PainAnswer:
    best = int(probabilities.argmax())
    chosen = None
    if quantile is not None:
        # the likeliest level always belongs to the set: an empty set would tell a reader nothing
        chosen = [level for i, level in enumerate(levels) if i == best or 1.0 - probabilities[i] <= quantile]
    named = dict(zip(levels, (float(p) for p in probabilities), strict=True))
    return PainAnswer(levels[best], float(probabilities @ np.arange(len(levels))), named, chosen)


def _value(value: float, quantile: float | None) -> ValueAnswer:
    clipped = float(np.clip(value, -1.0, 1.0))
    if quantile is None:
        return ValueAnswer(clipped, None)
    return ValueAnswer(clipped, (max(-1.0, clipped - quantile), min(1.0, clipped + quantile)))

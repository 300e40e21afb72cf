"""Scores. `*_score` is better when higher; errors say so in their name.

Axes: N clips or frames.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def pain_metrics(predicted: Ints, levels: Ints, count: int) -> dict[str, float]:
    """Accuracy over all levels, accuracy of lowest against highest, and mean absolute error in levels.

    `predicted` is -1 where a clip got no answer: it counts as wrong in both accuracies, and as the largest possible
    error. For the binary accuracy a prediction of the upper half of the levels counts as the highest.
    """
    answered = predicted >= 0
    extremes = (levels == 0) | (levels == count - 1)
    high = predicted > (count - 1) / 2
    binary = answered & (high == (levels == count - 1))
    worst = np.maximum(levels, count - 1 - levels)
    return {
        "accuracy": float((predicted == levels).mean()),
        "accuracy_lowest_highest": float(binary[extremes].mean()),
        "mean_absolute_error": float(np.where(answered, np.abs(predicted - levels), worst).mean()),
        "unanswered": float((~answered).sum()),
        "clips": float(len(levels)),
    }


def ccc_score(values: Floats, truth: Floats) -> float:
    """Lin's concordance correlation of two (N,) arrays, pooled; 0 where both are constant.

    >>> round(ccc_score(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])), 4)
    0.5714
    """
    covariance = float(((values - values.mean()) * (truth - truth.mean())).mean())
    spread = float(values.var() + truth.var() + (values.mean() - truth.mean()) ** 2)
    return 2.0 * covariance / spread if spread > 0 else 0.0


def affect_metrics(values: Floats, truth: Floats) -> dict[str, float]:
    """CCC of valence and arousal, (N, 2) each, pooled over all labelled frames, and their mean."""
    valence, arousal = (ccc_score(values[:, i], truth[:, i]) for i in range(2))
    return {
        "ccc_valence": valence,
        "ccc_arousal": arousal,
        "ccc_mean": 0.5 * (valence + arousal),
        "frames": float(len(truth)),
    }


def spread_over_frames(times_s: Floats, spans_s: Floats, values: Floats, fallback: Floats) -> Floats:
    """Window values (W, 2) for each frame time (n,): the mean of the windows that cover it, else the nearest window's.

    With no window at all every frame gets `fallback` (2,).
    """
    if not len(spans_s):
        return np.tile(fallback, (len(times_s), 1))
    covered = (times_s[:, None] >= spans_s[None, :, 0]) & (times_s[:, None] < spans_s[None, :, 1])  # (n, W)
    middles = spans_s.mean(axis=1)
    nearest = np.abs(times_s[:, None] - middles[None, :]).argmin(axis=1)  # (n,)
    alone = ~covered.any(axis=1)
    covered[alone, nearest[alone]] = True
    weights = covered / covered.sum(axis=1, keepdims=True)  # (n, W)
    spread: Floats = weights @ values
    return spread

"""From a graph's output to an answer: probabilities, conformal sets and intervals. Numpy, applied by both sides.

Axes: N windows, K levels or classes.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.manifest import Calibration
from models.spec import Task

Floats = NDArray[np.float64]
Answer = TypeVar("Answer")

Range = tuple[float, float]
AFFECT_RANGE: Final[Range] = (-1.0, 1.0)
ANY_RANGE: Final[Range] = (-np.inf, np.inf)
LabelTask = Literal["pain", "classification"]


class PainAnswer(NamedTuple):
    """One window's pain: the likeliest level, the mean index, all probabilities, and the conformal set."""

    level: str
    expected: float
    probabilities: dict[str, float]
    conformal_set: list[str] | None


class ValueAnswer(NamedTuple):
    """One window's valence or arousal with its conformal interval, both in [-1, 1]."""

    value: float
    interval: Range | None


def corn_probabilities(logits: NDArray[np.generic], temperature: float = 1.0) -> Floats:
    """Level probabilities (N, K) of CORN's conditional logits (N, K - 1), divided by `temperature` first.

    Logit j is that of P(y > j | y > j - 1), so P(y > j) is a running product
    (Shi, Cao & Raschka, arXiv 2111.08851, eq. 5).

    >>> corn_probabilities(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.25, 0.25]]
    """
    halves = 0.5 * np.asarray(logits, np.float64) / temperature
    conditional = 0.5 * (1.0 + np.tanh(halves))  # (N, K-1), a sigmoid that cannot overflow
    above = conditional.cumprod(axis=1)  # (N, K-1): P(y > j)
    edges = np.zeros((len(above), above.shape[1] + 2))
    edges[:, 0], edges[:, 1:-1] = 1.0, above
    probabilities: Floats = edges[:, :-1] - edges[:, 1:]  # (N, K)
    return probabilities


def softmax_probabilities(logits: NDArray[np.generic], temperature: float = 1.0) -> Floats:
    """Class probabilities (N, K) of finite logits (N, K), divided by `temperature` first.

    >>> softmax_probabilities(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    z = np.asarray(logits, np.float64)
    powers = np.exp((z - z.max(axis=1, keepdims=True)) / temperature)  # (N, K), at most 1: cannot overflow
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def label_probabilities(task: LabelTask, logits: NDArray[np.generic], temperature: float = 1.0) -> Floats:
    """Probabilities (N, K) of a graph's logits, by the task's own rule."""
    return (corn_probabilities if task == "pain" else softmax_probabilities)(logits, temperature)


def label_scores(probabilities: Floats, labels: NDArray[np.integer]) -> Floats:
    """Conformity scores (N,): 1 - the probability of the true label (Sadinle, Lei & Wasserman, arXiv 1609.00451)."""
    scores: Floats = 1.0 - probabilities[np.arange(len(labels)), labels]
    return scores


def value_scores(values: Floats, truth: Floats) -> Floats:
    """Conformity scores of one output (N,): the absolute error."""
    return np.abs(values - truth)


def conformal_sets(probabilities: Floats, quantile: float) -> NDArray[np.bool_]:
    """Which labels belong to each window's set, (N, K): those whose score is within the quantile, and the likeliest.

    The likeliest always belongs to it: an empty set would tell a reader nothing.
    """
    likeliest = np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]
    sets: NDArray[np.bool_] = (1.0 - probabilities <= quantile) | likeliest
    return sets


def conformal_intervals(values: Floats, quantile: float, limits: Range = ANY_RANGE) -> Floats:
    """Low and high, (N,) to (N, 2): the value, cut to its range, with the quantile on both sides, cut again."""
    middle = np.clip(values, *limits)
    return np.clip(np.stack([middle - quantile, middle + quantile], axis=1), *limits)


def value_range(task: Task) -> Range:
    """Where a task's values may lie."""
    return AFFECT_RANGE if task == "valence-arousal" else ANY_RANGE


def answer_pain(
    logits: NDArray[np.generic], levels: tuple[str, ...], calibration: Calibration
) -> list[PainAnswer | None]:
    """One answer per row of `logits` (N, K - 1); None where the output is not finite."""
    quantile = calibration.quantiles["pain"]

    def answer(row: Floats) -> PainAnswer:
        probabilities = corn_probabilities(row[None], calibration.temperature)  # (1, K)
        level, expected = levels[int(probabilities[0].argmax())], float(probabilities[0] @ np.arange(len(levels)))
        chosen = None
        if quantile is not None:
            chosen = [levels[i] for i in np.flatnonzero(conformal_sets(probabilities, quantile)[0])]
        return PainAnswer(level, expected, dict(zip(levels, map(float, probabilities[0]), strict=True)), chosen)

    return _where_finite(logits, answer)


def answer_affect(
    values: NDArray[np.generic], calibration: Calibration
) -> list[tuple[ValueAnswer, ValueAnswer] | None]:
    """(valence, arousal) per row of `values` (N, 2), cut to [-1, 1]; None where the output is not finite."""
    valence, arousal = calibration.quantiles["valence"], calibration.quantiles["arousal"]

    def answer(row: Floats) -> tuple[ValueAnswer, ValueAnswer]:
        return _affect(row[0], valence), _affect(row[1], arousal)

    return _where_finite(values, answer)


def _where_finite(output: NDArray[np.generic], answer: Callable[[Floats], Answer]) -> list[Answer | None]:
    return [answer(row) if np.isfinite(row).all() else None for row in np.asarray(output, np.float64)]


def _affect(value: float, quantile: float | None) -> ValueAnswer:
    cut = float(np.clip(value, *AFFECT_RANGE))
    if quantile is None:
        return ValueAnswer(cut, None)
    low, high = conformal_intervals(np.array([value]), quantile, AFFECT_RANGE)[0]
    return ValueAnswer(cut, (float(low), float(high)))

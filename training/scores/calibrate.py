"""Calibration: a temperature for the probabilities, and conformal sets and intervals that hold for a new person.

Axes: N windows, K levels or classes, P people.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Calibration
from models.outputs import LabelTask, label_probabilities

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TEMPERATURES: Final = (0.05, 20.0)
BINS: Final = 15


class TemperatureFit(NamedTuple):
    """The temperature, and negative log-likelihood (nats) and expected calibration error without and with it."""

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


class OutOfFold(NamedTuple):
    """Scores of people by nets of the same recipe that were trained without them."""

    scores: Mapping[str, Floats]
    """By output (N,)."""
    person: NDArray[np.generic]
    """(N,)"""


class Coverage(NamedTuple):
    """How often sets or intervals hold the truth: each person's share of windows, then over people."""

    mean: float
    tenth_percentile: float
    """A tenth of the people are covered less often."""
    width: float
    """Mean over people of their mean set size (labels) or interval width (units of the output)."""
    people: int


def fit_temperature(logits: NDArray[np.generic], labels: Ints, task: LabelTask) -> TemperatureFit:
    """The T in 0.05..20 with the least negative log-likelihood of labels (N,) under logits / T; ValueError if N is 0.

    Guo et al., arXiv 1706.04599, section 4.2; for pain the logits (N, K - 1) are CORN's, else softmax's (N, K). The
    loss is convex in 1 / T, so its one minimum is found on log T.
    """
    if not len(labels):
        raise ValueError(
            "a temperature is fitted on at least one labelled window of the selection people; there is none"
        )
    from scipy.optimize import minimize_scalar  # not above: it takes a good half second, and exporting fits nothing

    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(lambda t: nll(logits, labels, task, float(np.exp(t))), bounds=bounds, method="bounded")
    temperature = float(np.exp(found.x))
    return TemperatureFit(
        temperature,
        nll(logits, labels, task, 1.0),
        nll(logits, labels, task, temperature),
        expected_calibration_error(label_probabilities(task, logits), labels),
        expected_calibration_error(label_probabilities(task, logits, temperature), labels),
    )


def nll(logits: NDArray[np.generic], labels: Ints, task: LabelTask, temperature: float) -> float:
    """Mean negative log-likelihood in nats of labels (N,); finite for any finite logits."""
    z = np.asarray(logits, np.float64) / temperature
    if task == "classification":
        return float((np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), labels]).mean())
    thresholds = np.arange(z.shape[1])
    # -log sigmoid of the right answer to each question that CORN asks of a window: "above j?" for all j up to its level
    losses = np.logaddexp(0.0, np.where(labels[:, None] > thresholds, -z, z))  # (N, K-1)
    return float((losses * (labels[:, None] >= thresholds)).sum(axis=1).mean())


def expected_calibration_error(probabilities: Floats, labels: Ints) -> float:
    """Mean over windows of |accuracy - mean confidence| of the window's bin, 15 bins of the likeliest's probability.

    Guo et al., arXiv 1706.04599, eq. 3. Lower is better, 0 to 1.
    """
    confidence = probabilities.max(axis=1)
    excess = confidence - (probabilities.argmax(axis=1) == labels)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bins, excess, minlength=BINS)).sum() / len(labels))


def people_needed(confidence_level: float) -> int:
    """The fewest calibration people P with P / (P + 1) at or above the level.

    >>> people_needed(0.9), people_needed(0.8), people_needed(0.95)
    (9, 4, 19)
    """
    return int(np.ceil(confidence_level / (1.0 - confidence_level) - 1e-9))


def hierarchical_quantile(scores: Floats, person: NDArray[np.generic], confidence_level: float) -> float | None:
    """The conformal quantile for a window of a new person, from scores (N,) of exchangeable people; None if infinite.

    The level's quantile of sum_p sum_i delta(s_pi) / ((P + 1) n_p) + delta(infinity) / (P + 1)
    (Lee, Barber & Willett, arXiv 2306.06342, hierarchical conformal prediction). How the windows of one person depend
    on each other does not matter.

    >>> hierarchical_quantile(np.arange(9.0), np.arange(9), 0.9)
    8.0
    """
    people = len(np.unique(person))
    # with weights of 1 / (P n_p) for 1 / ((P + 1) n_p) the level rises instead, above 1 where it is out of reach
    return _weighted_quantile(scores, person, confidence_level * (people + 1) / max(people, 1))


def pooled_quantile(scores: Floats, person: NDArray[np.generic], confidence_level: float) -> float | None:
    """The level's quantile of scores (N,), each person weighing the same; None if there are none. A heuristic.

    It leaves out the mass at infinity that makes `hierarchical_quantile` valid, so it is too small for few people.
    """
    return _weighted_quantile(scores, person, confidence_level)


def _weighted_quantile(scores: Floats, person: NDArray[np.generic], share: float) -> float | None:
    """The smallest score with at least `share` of the weight at or below it, each person weighing 1 / P in all."""
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} conformity scores are not finite: give answered windows only")
    people, owner, counts = np.unique(person, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    at_or_below = np.cumsum(1.0 / (len(people) * counts[owner[order]]))  # (N,)
    at = int(np.searchsorted(at_or_below, share - 1e-9))
    return float(scores[order[at]]) if at < len(scores) else None


def conformal_calibration(
    scores: Mapping[str, Floats],
    person: NDArray[np.generic],
    confidence_level: float,
    *,
    temperature: float = 1.0,
    out_of_fold: OutOfFold | None = None,
) -> Calibration:
    """What a bundle needs of one graph, from the calibration people's scores by output (N,) and their persons (N,).

    Too few people give quantiles of None with the reason, or, with `out_of_fold` scores, their pooled quantiles with a
    reason that calls them a heuristic.
    """
    people, needed = len(np.unique(person)), people_needed(confidence_level)
    quantile, reason, heuristic = hierarchical_quantile, None, False
    if people < needed:
        reason = f"{people} calibration people are too few for {100 * confidence_level:g}%, which needs {needed}: "
        if out_of_fold is None:
            reason += "no set or interval is given"
        else:
            (scores, person), quantile, heuristic = out_of_fold, pooled_quantile, True
            people = len(np.unique(person))
            reason += (
                f"a heuristic instead, the pooled out-of-fold scores of {people} people by nets of the same recipe"
            )
    return Calibration(
        confidence_level=confidence_level,
        quantiles={name: quantile(own, person, confidence_level) for name, own in scores.items()},
        temperature=temperature,
        people=people,
        windows=len(person),
        heuristic=heuristic,
        reason=reason,
    )


def set_coverage(sets: NDArray[np.bool_], labels: Ints, person: NDArray[np.generic]) -> Coverage:
    """Of conformal sets (N, K) against the true labels (N,)."""
    return _coverage(sets[np.arange(len(labels)), labels], sets.sum(axis=1), person)


def interval_coverage(intervals: Floats, truth: Floats, person: NDArray[np.generic]) -> Coverage:
    """Of conformal intervals (N, 2) against the truth (N,)."""
    held = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    return _coverage(held, intervals[:, 1] - intervals[:, 0], person)


def _coverage(held: NDArray[np.bool_], widths: NDArray[np.generic], person: NDArray[np.generic]) -> Coverage:
    people, owner, counts = np.unique(person, return_inverse=True, return_counts=True)
    if not len(people):
        raise ValueError("coverage is measured on at least one answered window of the test people; there is none")
    shares, means = (np.bincount(owner, x) / counts for x in (held, widths))
    return Coverage(float(shares.mean()), float(np.quantile(shares, 0.1)), float(means.mean()), len(people))

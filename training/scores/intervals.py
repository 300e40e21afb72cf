"""How sure every score of the predictions is: all of them for thousands of draws of people, from a few sums of each.

Axes: D draws, P people, n items, K levels or classes, C values.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.scores.concordance import PooledMoments, ccc_of, person_moments, pooled_moments
from training.scores.metrics import in_doubt_farthest, likeliest, ranked_wrong, right_of_extremes
from training.scores.predictions import Predictions
from training.scores.statistics import BOOTSTRAP_DRAWS, Interval, bootstrap_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OfDraws = Callable[[Floats], dict[str, Floats]]


def score_intervals(runs: Sequence[Predictions], *, draws: int = BOOTSTRAP_DRAWS) -> dict[str, Interval | None]:
    """95 % bootstrap interval over people of each score's mean over `runs`, such as seeds, that tested the same people.

    Counts have none. A score has None where a draw leaves it undefined, and all have for fewer than two people. All
    runs, and all rows of a table, take the same draws. ValueError if the runs' people differ.
    """
    people = np.unique(runs[0].person)
    if any(not np.array_equal(np.unique(run.person), people) for run in runs):
        raise ValueError("an interval of a mean over runs needs the same people in all of them")
    each = [scores_of_draws(run) for run in runs]

    def mean(counts: Floats) -> dict[str, Floats]:
        found = [of_draws(counts) for of_draws in each]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}

    return bootstrap_scores(mean, len(people), draws=draws)


def scores_of_draws(said: Predictions) -> OfDraws:
    """From how often each person counts, (D, P), people in sorted order, to each score of `said` but counts, (D,).

    Equal to `Predictions.scores` of each person's items repeated so often; NaN where that is not defined.
    """
    _, owner = np.unique(said.person, return_inverse=True)
    if said.task in ("valence-arousal", "regression"):
        return _of_values(said, said.truth.astype(np.float64))
    truth, labels = said.truth.astype(np.int64), said.said.shape[1]
    by_label = _by_label(likeliest(said.said), truth, labels, owner)
    if said.task == "pain":
        of_levels = _of_levels(said, truth, owner)
        return lambda counts: by_label(counts) | of_levels(counts)
    if labels == 2 and len(np.unique(truth)) == 2:
        area = _area(ranked_wrong(said.said, truth), truth == 1, owner)
        return lambda counts: by_label(counts) | {"auc": area(counts)}
    return by_label


def _by_label(predicted: Ints, truth: Ints, labels: int, owner: NDArray[np.intp]) -> OfDraws:
    """Accuracy, balanced accuracy and macro-F1, as `training.scores.metrics` defines them."""
    there = [_sums(truth == k, owner) for k in range(labels)]
    given = [_sums(predicted == k, owner) for k in range(labels)]
    right = [_sums((predicted == k) & (truth == k), owner) for k in range(labels)]
    sums = np.stack([there, given, right])  # (3, K, P)

    def of_draws(counts: Floats) -> dict[str, Floats]:
        t, g, r = np.moveaxis(counts @ sums.reshape(-1, sums.shape[-1]).T, -1, 0).reshape(3, labels, -1)  # (K, D) each
        present = (t > 0).sum(axis=0)
        recall = np.divide(r, t, out=np.zeros_like(r), where=t > 0)
        f1 = np.divide(2.0 * r, t + g, out=np.zeros_like(r), where=t > 0)
        return {
            "accuracy": r.sum(axis=0) / t.sum(axis=0),
            "balanced_accuracy": recall.sum(axis=0) / present,
            "macro_f1": f1.sum(axis=0) / present,
        }

    return of_draws


def _of_levels(said: Predictions, levels: Ints, owner: NDArray[np.intp]) -> OfDraws:
    """What pain's scores have beyond: those of levels as numbers, and lowest against highest."""
    given, expected = in_doubt_farthest(said.said, levels)
    truth = levels.astype(np.float64)
    moments = np.stack([person_moments(x, truth, said.person) for x in (given.astype(np.float64), expected)])
    error, clips = _sums(np.abs(given - levels), owner), _sums(np.ones(len(levels)), owner)
    right, extremes = (_sums(which, owner) for which in right_of_extremes(said.said, levels))

    def of_draws(counts: Floats) -> dict[str, Floats]:
        m = pooled_moments(counts, moments)  # (D, 2) each
        spread = (m.variance + m.truth_variance)[:, 1]
        scores = {
            "mean_absolute_error": counts @ error / (counts @ clips),
            "qwk": ccc_of(m)[:, 0],
            # with two judges (BMS - EMS) / (BMS + EMS) is the CCC without its bias
            "icc_3_1": _ratio(2.0 * m.covariance[:, 1], spread),
        }
        if extremes.any():
            scores["accuracy_lowest_highest"] = _ratio(counts @ right, counts @ extremes, undefined=np.nan)
        return scores

    return of_draws


def _area(scores: Floats, positive: NDArray[np.bool_], owner: NDArray[np.intp]) -> Callable[[Floats], Floats]:
    """The area under the ROC curve: won pairs of one person's positives and another's negatives, for all two people."""
    people = int(owner.max()) + 1
    won = np.zeros((people, people))
    for p in range(people):
        negative = np.sort(scores[~positive & (owner == p)])
        below, at_most = (np.searchsorted(negative, scores[positive], side=side) for side in ("left", "right"))
        won[:, p] = np.bincount(owner[positive], 0.5 * (below + at_most), minlength=people)
    ones, zeros = _sums(positive, owner), _sums(~positive, owner)

    def of_draws(counts: Floats) -> Floats:
        return _ratio(((counts @ won) * counts).sum(axis=1), (counts @ ones) * (counts @ zeros), undefined=np.nan)

    return of_draws


def _of_values(said: Predictions, truth: Floats) -> OfDraws:
    """CCC, PCC and RMSE of each value, and the mean CCC."""
    columns = zip(said.said.T, truth.T, strict=True)
    moments = np.stack([person_moments(values, true, said.person) for values, true in columns])  # (C, P, 6)

    def of_draws(counts: Floats) -> dict[str, Floats]:
        m = pooled_moments(counts, moments)  # (D, C) each
        ccc = ccc_of(m)
        by_score: Mapping[str, Floats] = {"ccc": ccc, "pcc": _pcc(m), "rmse": _rmse(m)}
        scores = {f"{score}_{name}": of[:, c] for score, of in by_score.items() for c, name in enumerate(said.names)}
        return scores | {"ccc_mean": ccc.mean(axis=1)}

    return of_draws


def _pcc(m: PooledMoments) -> Floats:
    return _ratio(m.covariance, np.sqrt(np.maximum(m.variance, 0.0) * np.maximum(m.truth_variance, 0.0)))


def _rmse(m: PooledMoments) -> Floats:
    return np.sqrt(np.maximum(m.variance + m.truth_variance - 2.0 * m.covariance, 0.0) + m.bias**2)


def _ratio(a: Floats, b: Floats, *, undefined: float = 0.0) -> Floats:
    """a / b; `undefined` where b is 0: constants correlate by 0."""
    return np.divide(a, b, out=np.full_like(b, undefined), where=b > 0)


def _sums(values: NDArray[np.generic], owner: NDArray[np.intp]) -> Floats:
    """Of each person's items, (n,) to (P,)."""
    sums: Floats = np.bincount(owner, values.astype(np.float64)).astype(np.float64)
    return sums

"""Scores. `*_score` is better when higher; errors say so in their name.

Axes: N clips or frames, K levels or classes, C outputs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.spec import Task

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def pain_metrics(probabilities: Floats, levels: Ints) -> dict[str, float]:
    """Scores of level probabilities (N, K), a row of NaN where a clip got no answer, against levels (N,) in 0..K-1.

    Accuracy over all levels, balanced accuracy, accuracy of lowest against highest (a prediction of the upper half of
    the levels counts as the highest; left out where no clip has either level), macro-F1, mean absolute error in levels,
    quadratic weighted kappa, and ICC(3,1) of the expected level. A clip without an answer is wrong in every one of
    them: in the last three it counts as the level farthest from the true one.
    """
    predicted = likeliest(probabilities)
    levels_given, expected = in_doubt_farthest(probabilities, levels)
    scores = {
        "accuracy": float((predicted == levels).mean()),
        "balanced_accuracy": balanced_accuracy_score(predicted, levels),
        "macro_f1": macro_f1_score(predicted, levels),
        "mean_absolute_error": float(np.abs(levels_given - levels).mean()),
        "qwk": qwk_score(levels_given, levels),
        "icc_3_1": icc_3_1_score(np.stack([expected, levels], axis=1)),
        "unanswered": float((predicted < 0).sum()),
        "clips": float(len(levels)),
    }
    right, extremes = right_of_extremes(probabilities, levels)
    if extremes.any():
        scores["accuracy_lowest_highest"] = float(right[extremes].mean())
    return scores


def classification_metrics(probabilities: Floats, classes: Ints) -> dict[str, float]:
    """Scores of class probabilities (N, K), a row of NaN where a clip got no answer, against classes (N,) in 0..K-1.

    Accuracy, balanced accuracy and macro-F1; of two classes, both of them there, also the area under the ROC curve of
    the second. A clip without an answer is wrong in all of them: in the last it is ranked on the wrong end.
    """
    predicted = likeliest(probabilities)
    scores = {
        "accuracy": float((predicted == classes).mean()),
        "balanced_accuracy": balanced_accuracy_score(predicted, classes),
        "macro_f1": macro_f1_score(predicted, classes),
        "unanswered": float((predicted < 0).sum()),
        "clips": float(len(classes)),
    }
    if probabilities.shape[1] == 2 and len(np.unique(classes)) == 2:
        scores["auc"] = auc_score(ranked_wrong(probabilities, classes), classes)
    return scores


def affect_metrics(values: Floats, truth: Floats) -> dict[str, float]:
    """CCC, PCC and RMSE of valence and arousal, (N, 2) each, pooled over all labelled frames, and the mean CCC."""
    return value_metrics(values, truth, ("valence", "arousal")) | {"frames": float(len(truth))}


def regression_metrics(values: Floats, truth: Floats, names: Sequence[str]) -> dict[str, float]:
    """CCC, PCC and RMSE of each output, (N, C) each, pooled over all clips, and the mean CCC."""
    return value_metrics(values, truth, names) | {"clips": float(len(truth))}


def value_metrics(values: Floats, truth: Floats, names: Sequence[str]) -> dict[str, float]:
    """`ccc_<name>`, `pcc_<name>` and `rmse_<name>` of each column of (N, C), and `ccc_mean`."""
    scores: dict[str, float] = {}
    for name, given, true in zip(names, values.T, truth.T, strict=True):
        scores[f"ccc_{name}"] = ccc_score(given, true)
        scores[f"pcc_{name}"] = pcc_score(given, true)
        scores[f"rmse_{name}"] = float(np.sqrt(np.square(given - true).mean()))
    return scores | {"ccc_mean": float(np.mean([scores[f"ccc_{name}"] for name in names]))}


def likeliest(probabilities: Floats) -> Ints:
    """The likeliest of each row (N, K), the lowest of equals; -1 for a row of NaN."""
    answered = np.isfinite(probabilities).all(axis=1)
    return np.where(answered, np.nan_to_num(probabilities).argmax(axis=1), -1)


def in_doubt_farthest(probabilities: Floats, levels: Ints) -> tuple[Ints, Floats]:
    """The likeliest and the expected level of each clip, (N,); without an answer the farthest from `levels` (N,)."""
    predicted, highest = likeliest(probabilities), probabilities.shape[1] - 1
    farthest = np.where(levels > highest / 2, 0, highest)
    expected = probabilities @ np.arange(highest + 1)
    return np.where(predicted >= 0, predicted, farthest), np.where(predicted >= 0, expected, farthest)


def right_of_extremes(probabilities: Floats, levels: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which clips of the lowest or highest level are answered in its half, and which have such a level, (N,) each."""
    predicted, highest = likeliest(probabilities), probabilities.shape[1] - 1
    extremes = (levels == 0) | (levels == highest)
    return extremes & (predicted >= 0) & ((predicted > highest / 2) == (levels == highest)), extremes


def ranked_wrong(probabilities: Floats, classes: Ints) -> Floats:
    """The probability of the second of two classes, (N,); without an answer infinite, on the wrong end."""
    wrong_end = np.where(classes == 1, -np.inf, np.inf)
    return np.where(likeliest(probabilities) < 0, wrong_end, probabilities[:, 1])


def balanced_accuracy_score(predicted: Ints, truth: Ints) -> float:
    """The mean recall of the classes in `truth`, (N,) each; a prediction of -1 is wrong."""
    return float(np.mean([(predicted[truth == k] == k).mean() for k in np.unique(truth)]))


def macro_f1_score(predicted: Ints, truth: Ints) -> float:
    """The mean F1 = 2 TP / (2 TP + FP + FN) of the classes in `truth`, (N,) each; a prediction of -1 is a miss."""
    present = np.unique(truth)
    hits = [((predicted == k) & (truth == k)).sum() for k in present]
    sizes = [(predicted == k).sum() + (truth == k).sum() for k in present]
    return float(np.mean(2.0 * np.array(hits) / np.array(sizes)))


def auc_score(scores: Floats, positive: Ints) -> float:
    """The chance that a positive (1) has a higher score than a negative (0), ties one half; both must be there.

    The Mann-Whitney form of the area under the ROC curve (Hanley & McNeil, Radiology 143, 1982).
    """
    ones, others = scores[positive == 1], np.sort(scores[positive != 1])
    below, below_or_tied = (np.searchsorted(others, ones, side) for side in ("left", "right"))
    return float((below + below_or_tied).sum()) / 2 / (len(ones) * len(others))


def qwk_score(predicted: Ints, truth: Ints) -> float:
    """Cohen's kappa with quadratic weights of two (N,) arrays of levels; 0 where both are constant.

    Its observed and expected disagreements are the mean squares that make up Lin's CCC of the levels as numbers
    (Fleiss & Cohen, Educational and Psychological Measurement 33, 1973).
    """
    return ccc_score(predicted.astype(np.float64), truth.astype(np.float64))


def icc_3_1_score(ratings: Floats) -> float:
    """ICC(3,1) of n targets by k fixed judges (n, k): consistency of a single judge; 0 where all ratings are equal.

    (BMS - EMS) / (BMS + (k - 1) EMS), the mean squares between targets and of the residual
    (Shrout & Fleiss, Psychological Bulletin 86, 1979). A constant shift of a judge costs nothing.
    """
    n, k = ratings.shape
    targets, judges, grand = ratings.mean(axis=1), ratings.mean(axis=0), ratings.mean()
    between = k * float(np.square(targets - grand).sum()) / max(n - 1, 1)
    residual = float(np.square(ratings - targets[:, None] - judges + grand).sum()) / max((n - 1) * (k - 1), 1)
    total = between + (k - 1) * residual
    return (between - residual) / total if total > 0 else 0.0


def ccc_score(values: Floats, truth: Floats) -> float:
    """Lin's concordance correlation of two (N,) arrays, pooled; 0 where both are constant.

    >>> round(ccc_score(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])), 4)
    0.5714
    """
    covariance = float(((values - values.mean()) * (truth - truth.mean())).mean())
    spread = float(values.var() + truth.var() + (values.mean() - truth.mean()) ** 2)
    return 2.0 * covariance / spread if spread > 0 else 0.0


def pcc_score(values: Floats, truth: Floats) -> float:
    """Pearson's correlation of two (N,) arrays; 0 where either is constant."""
    covariance = float(((values - values.mean()) * (truth - truth.mean())).mean())
    spread = float(values.std() * truth.std())
    return covariance / spread if spread > 0 else 0.0


def score_by_person(
    task: Task, answers: Floats, truth: NDArray[np.generic], person: NDArray[np.generic]
) -> dict[str, float]:
    """The headline score of each person, by `str(person)`: what tests over people and scores by group are made of.

    pain, classification: accuracy of probabilities (N, K) against (N,), NaN rows wrong. valence-arousal, regression:
    the mean over outputs of the CCC within the person, (N, C) both; an output whose truth does not vary within a
    person says nothing of that person, and one in whom none varies has no score.
    """
    scores: dict[str, float] = {}
    people, owner = np.unique(person, return_inverse=True)
    for p, who in enumerate(people):
        own = owner == p
        if task in ("pain", "classification"):
            scores[str(who)] = float((likeliest(answers[own]) == truth[own]).mean())
        elif (columns := np.flatnonzero(np.ptp(truth[own], axis=0) > 0)).size:
            scores[str(who)] = float(np.mean([ccc_score(answers[own, c], truth[own, c]) for c in columns]))
    return scores


def spread_over_frames(times_s: Floats, spans_s: Floats, values: Floats, fallback: Floats) -> Floats:
    """Window values (W, C) for each frame time (n,), (n, C): the mean of the windows that cover it.

    `spans_s` (W, 2) are starts and ends; a window covers its start, and not its end. A frame that none covers gets the
    last window that began before it, as a live answer would, and where none did the first one. With no window at all
    every frame gets `fallback` (C,).
    """
    if not len(spans_s):
        return np.tile(fallback, (len(times_s), 1))
    by_start, by_end = np.argsort(spans_s[:, 0], kind="stable"), np.argsort(spans_s[:, 1], kind="stable")
    begun = np.searchsorted(spans_s[by_start, 0], times_s, side="right")  # (n,): how many windows
    over = np.searchsorted(spans_s[by_end, 1], times_s, side="right")
    covering = (begun - over)[:, None]
    first = values[by_start[0]]
    more = values - first  # summed in place of the values: windows that all say the same must not differ by rounding
    sums = _sums(more[by_start])[begun] - _sums(more[by_end])[over]  # (n, C)
    latest = values[by_start[np.maximum(begun - 1, 0)]]
    spread: Floats = np.where(covering > 0, first + sums / np.maximum(covering, 1), latest)
    return spread


def _sums(values: Floats) -> Floats:
    """Of the first 0, 1, ... W of (W, C), (W + 1, C)."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])

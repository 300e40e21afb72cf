"""Few labels, many pairs: which training and selection windows keep their label.

Both parts pay: a label that chooses the epoch is a label that somebody had to give. What is counted is what they had to
look at: a whole clip where it has one label, and time where labels change within a clip. Windows are not counted, since
several of them share one label, or overlap.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.window_set import WindowSet, has_target
from training.stage_config import LabelsConfig

Index = NDArray[np.intp]

ROUNDING_S = 1e-6
"""By which sums of spans may miss the budget that they add up to."""


def keep_labels(windows: WindowSet, config: LabelsConfig, *, seed: int) -> WindowSet:
    """The same windows; what `config.fraction` leaves of the labels keeps its target. `seed` draws which.

    `by="class"`: where all labelled windows of each clip have one target, whole clips are drawn: a share of each class,
    or of each person's clips where targets are values, and at least one. Where targets change within a clip, each
    person keeps one stretch of windows: neighbours that cover at most the share of that person's labelled time, or a
    single window where the share is shorter than that. `by="person"` keeps all labels of a share of the people, of at
    least one.
    """
    if config.fraction == 1.0:
        return windows
    generator = np.random.default_rng([seed, 11])
    labelled = np.flatnonzero(has_target(windows.targets).numpy())
    person, clip = windows.person.numpy()[labelled], windows.clip.numpy()[labelled]
    kept = np.zeros(len(windows), bool)
    if config.by == "person":
        chosen = _draw(np.unique(person), config.fraction, generator)
        kept[labelled[np.isin(person, chosen)]] = True
        return windows.with_labels_of(torch.from_numpy(kept))
    targets = windows.targets.numpy()[labelled]
    _, first, number = np.unique(clip, return_index=True, return_inverse=True)
    if (targets == targets[first[number]]).all():
        units = np.sort(first)  # each clip by its first labelled window
        stratum = (targets if targets.ndim == 1 else person)[units]
        for value in np.unique(stratum):
            drawn = _draw(units[stratum == value], config.fraction, generator)
            kept[labelled[np.isin(clip, clip[drawn])]] = True
    else:
        spans_s = windows.spans_s.numpy()[labelled]
        for who in np.unique(person):
            own = np.flatnonzero(person == who)
            kept[labelled[own[_stretch(clip[own], spans_s[own], config.fraction, generator)]]] = True
    return windows.with_labels_of(torch.from_numpy(kept))


def _draw(from_: NDArray[np.int64], fraction: float, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.permutation(from_)[: max(1, round(fraction * len(from_)))]


def _stretch(clip: Index, spans_s: NDArray[np.float64], fraction: float, generator: np.random.Generator) -> Index:
    """Neighbours among one person's n labelled windows which cover at most `fraction` of what all of them cover.

    `clip` (n,), `spans_s` (n, 2), none of which lies within another. The clips lie end to end in a drawn order, each in
    the order of its time: the stretch holds whole clips where they are short, and a part of one where they are long.
    """
    clips, place = np.unique(clip, return_inverse=True)
    order = np.lexsort((spans_s[:, 0], generator.permutation(len(clips))[place]))
    length, more = np.diff(spans_s[order])[:, 0], _more(clip[order], spans_s[order])
    covered = np.concatenate([[0.0], np.cumsum(more)])
    # windows i to j - 1 cover the first one's length and what each later one adds to it
    budget = fraction * covered[-1] + ROUNDING_S
    end = np.searchsorted(covered, covered[1:] + budget - length, side="right") - 1
    starts = np.flatnonzero(end > np.arange(len(order)))
    starts = starts[: np.searchsorted(end[starts], len(order)) + 1]  # later ones would be cut off at the end
    if not len(starts):
        return generator.permutation(order)[:1]
    start = generator.choice(starts)
    return order[start : end[start]]


def _more(clip: Index, spans_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much time each window covers that those before it in its clip do not; clip by clip, in order of their starts.

    `clip` (n,), `spans_s` (n, 2), to (n,) in seconds.
    """
    more = np.empty(len(clip))
    until_s = -np.inf
    for i, (start_s, end_s) in enumerate(spans_s):
        if i == 0 or clip[i] != clip[i - 1]:
            until_s = -np.inf
        more[i] = max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    return more

"""Few labels, many pairs: which training and selection windows keep their label.

Both parts pay: a label that chooses the epoch is a label that somebody had to give.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import WindowSet, has_target
from training.stage_config import LabelsConfig


def keep_labels(windows: WindowSet, config: LabelsConfig, *, seed: int) -> WindowSet:
    """The same windows, of which `config.fraction` keep their target: at least one of each class, or one person.

    `by="class"` takes the share of each class, and where targets are values the share of each person's windows;
    `by="person"` keeps all labels of a share of the people. Which ones is drawn by `seed`.
    """
    if config.fraction == 1.0:
        return windows
    generator = np.random.default_rng([seed, 11])
    labelled = np.flatnonzero(has_target(windows.targets).numpy())
    person = windows.person.numpy()[labelled]
    kept = np.zeros(len(windows), bool)
    if config.by == "person":
        chosen = _draw(np.unique(person), config.fraction, generator)
        kept[labelled[np.isin(person, chosen)]] = True
    else:
        stratum = windows.targets.numpy()[labelled] if windows.targets.ndim == 1 else person
        for value in np.unique(stratum):
            kept[_draw(labelled[stratum == value], config.fraction, generator)] = True
    return windows.with_labels_of(torch.from_numpy(kept))


def _draw(from_: NDArray[np.int64], fraction: float, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.permutation(from_)[: max(1, round(fraction * len(from_)))]

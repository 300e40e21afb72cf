"""A corpus of features becomes a `WindowSet`: its rows are windows already."""

from collections.abc import Sequence

import numpy as np
import torch

from models.spec import InputSpec
from training.corpora.clip import Clip, Corpus, CorpusError
from training.corpora.feature_corpus import FeatureCorpus, require_inputs
from training.data import WindowSet
from training.windows import CorpusWindows


def feature_windows(
    features: FeatureCorpus, inputs: InputSpec, modalities: Sequence[str]
) -> tuple[Corpus, CorpusWindows]:
    """The rows as windows, and their recordings as clips. Raises CorpusError where a modality has another shape.

    Rows of one recording are one clip; where its rows have different classes, one clip for each.
    """
    require_inputs(features, inputs, modalities)
    _require_whole_signals(features, inputs, modalities)
    clips, clip = _clips(features)
    people = tuple(sorted(set(features.group)))
    place = {name: i for i, name in enumerate(people)}
    observed = {name: torch.from_numpy(features.observed(name)) for name in modalities}
    windows = WindowSet(
        store={name: torch.from_numpy(features.modalities[name]) for name in modalities},
        rows=torch.arange(len(features)),
        observed=observed,
        targets=torch.from_numpy(features.labels),
        person=torch.tensor([place[name] for name in features.group]),
        clip=torch.tensor(clip),
        spans_s=torch.from_numpy(np.ascontiguousarray(features.time_s)),
        people=people,
    )
    corpus = Corpus(
        name=features.name,
        task=features.task,
        levels=features.classes,
        values=features.values if features.task == "regression" else (),
        clips=clips,
        signal_columns=(),
        synthetic=features.synthetic,
        licence=features.licence,
        notes=features.notes,
    )
    return corpus, CorpusWindows(windows, (None,) * len(clips), ())


def _clips(features: FeatureCorpus) -> tuple[tuple[Clip, ...], list[int]]:
    """The corpus's clips, in the order of their first rows, and the number of each row's."""
    labels = features.labels
    level = [int(label) for label in labels] if labels.ndim == 1 else [-1] * len(labels)
    keys = list(zip(features.clip, level, strict=True))
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    number = {key: i for i, key in enumerate(first)}
    doubled = len(number) > len(set(features.clip))
    clips = tuple(
        Clip(
            id=f"{name} class {label}" if doubled else name,
            subject=features.group[row],
            video=None,
            level=label if label >= 0 else None,
            groups=features.groups[row],
            split=features.split[row],
        )
        for (name, label), row in first.items()
    )
    return clips, [number[key] for key in keys]


def _require_whole_signals(features: FeatureCorpus, inputs: InputSpec, modalities: Sequence[str]) -> None:
    """A signal is there or not: what lies inside a gap is for whoever recorded it to say."""
    for name in set(modalities) & set(inputs.signals):
        there = np.isfinite(features.modalities[name]).all(axis=(1, 2))
        if broken := np.flatnonzero(features.observed(name) & ~there).tolist():
            raise CorpusError(
                f"{features.name}: the signal {name} of row {broken[0]} has gaps: expected numbers all through, or NaN "
                "all through for a row without it."
            )

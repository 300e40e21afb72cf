"""A corpus of features becomes a `WindowSet`: its rows are windows already."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from models.spec import InputSpec
from training.corpora.clip import Clip, Corpus, CorpusError
from training.corpora.feature_corpus import FeatureCorpus, require_inputs
from training.corpora.recordings import notes_on_pooling, with_several_classes
from training.data.window_set import WindowSet
from training.data.windows import CorpusWindows


def feature_windows(
    features: FeatureCorpus, inputs: InputSpec, modalities: Sequence[str]
) -> tuple[Corpus, CorpusWindows]:
    """The rows as windows, and their recordings as clips. Raises CorpusError where a modality has another shape.

    Rows of one recording are one clip, those without a label too; where its labelled rows have several classes, each
    of its rows is a clip of its own. What is averaged is then told by the recording, and never by the truth.
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
        notes=features.notes + notes_on_pooling(features),
    )
    return corpus, CorpusWindows(windows, (None,) * len(clips), ())


def _clips(features: FeatureCorpus) -> tuple[tuple[Clip, ...], list[int]]:
    """The corpus's clips, in the order of their first rows, and the number of each row's."""
    ids = _clip_ids(features)
    rows: dict[str, list[int]] = {}
    for row, own in enumerate(ids):
        rows.setdefault(own, []).append(row)
    # of one class or none: a recording with several has a clip for each row
    level = {own: int(features.labels[of].max()) if features.labels.ndim == 1 else -1 for own, of in rows.items()}
    clips = tuple(
        Clip(
            id=own,
            subject=features.group[of[0]],
            video=None,
            level=level[own] if level[own] >= 0 else None,
            groups=features.groups[of[0]],
            split=features.split[of[0]],
        )
        for own, of in rows.items()
    )
    number = {own: i for i, own in enumerate(rows)}
    return clips, [number[own] for own in ids]


def _clip_ids(features: FeatureCorpus) -> list[str]:
    """The clip of each row: its recording, with the row's number in it where that has several classes."""
    names, several = set(features.clip), with_several_classes(features)
    seen: Counter[str] = Counter()
    ids = []
    for name in features.clip:
        ids.append(f"{name} {seen[name]:07d}" if name in several else name)
        seen[name] += 1
        if ids[-1] != name and ids[-1] in names:
            raise CorpusError(
                f"{features.name}: clip {ids[-1]} is a recording, and would name a row of the clip {name}, which has "
                "several classes: give one of the two another name."
            )
    return ids


def _require_whole_signals(features: FeatureCorpus, inputs: InputSpec, modalities: Sequence[str]) -> None:
    """A signal is there or not: what lies inside a gap is for whoever recorded it to say."""
    for name in set(modalities) & set(inputs.signals):
        there = np.isfinite(features.modalities[name]).all(axis=(1, 2))
        if broken := np.flatnonzero(features.observed(name) & ~there).tolist():
            raise CorpusError(
                f"{features.name}: the signal {name} of row {broken[0]} has gaps: expected numbers all through, or NaN "
                "all through for a row without it."
            )

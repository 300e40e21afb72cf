"""A corpus becomes a `WindowSet`: prepared tensors joined with labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.spec import InputSpec
from training.corpora.affwild2 import align_labels
from training.corpora.clip import Clip, Corpus
from training.data.cache import prepared_windows
from training.data.joined import joined, small
from training.data.window_set import WindowSet


class FrameLabels:
    """Valence and arousal of a clip's frames, on the clip's clock."""

    def __init__(self, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
        self.times_s, self.values = times_s, values
        """(n,) and (n, 2), NaN where there is no label."""

    def mean_in(self, spans_s: NDArray[np.float64]) -> NDArray[np.float32]:
        """The mean of the labelled frames inside each span: (W, 2) to (W, 2), NaN where a span holds none."""
        means = np.full((len(spans_s), 2), np.nan, np.float32)
        for i, (start_s, end_s) in enumerate(spans_s):
            inside = self.values[(self.times_s >= start_s) & (self.times_s < end_s)]
            inside = inside[np.isfinite(inside).all(axis=1)]
            if len(inside):
                means[i] = inside.mean(axis=0)
        return means


class CorpusWindows(NamedTuple):
    """A corpus's windows, and the frame labels of its clips where it has such."""

    windows: WindowSet
    frames: tuple[FrameLabels | None, ...]
    notes: tuple[str, ...]
    """What was trimmed, in sentences."""
    key: str = ""
    """Tells prepared recordings from others; empty where nothing was prepared."""


def to_deal(corpus: Corpus, windows: WindowSet) -> tuple[list[Clip], frozenset[str]]:
    """The clips of which there is a window, in order, and the people of whom no window has a label."""
    clips = [corpus.clips[i] for i in torch.unique(windows.clip).tolist()]
    labelled = {corpus.clips[i].subject for i in torch.unique(windows.labelled().clip).tolist()}
    return clips, frozenset(clip.subject for clip in corpus.clips) - labelled


def corpus_windows(
    corpus: Corpus, spec: InputSpec, modalities: Sequence[str], face_nets: Path | None, *, workers: int, folder: Path
) -> CorpusWindows:
    """All windows of `corpus` and their targets: the clip's level, or the mean over the window's labelled frames.

    `face_nets` may be None where `spec` has no face.
    """
    files = prepared_windows(
        corpus.clips, spec, face_nets, workers=workers, folder=folder, label=f"prepare {corpus.name}"
    )
    spans = [values.astype(np.float64) for values in small(files, "spans_s")]
    aligned = [
        _frame_labels(clip, times) for clip, times in zip(corpus.clips, small(files, "frame_times_s"), strict=True)
    ]
    targets = [_targets(clip, labels, own) for clip, (labels, _), own in zip(corpus.clips, aligned, spans, strict=True)]
    people = tuple(sorted({clip.subject for clip in corpus.clips}))
    clip_index = np.repeat(np.arange(len(files)), [len(own) for own in spans])
    person = np.array([people.index(clip.subject) for clip in corpus.clips])[clip_index]
    windows = WindowSet(
        store={name: joined(files, name, folder / "joined") for name in modalities},
        rows=torch.arange(len(clip_index)),
        observed={name: torch.from_numpy(np.concatenate(small(files, f"{name}_observed"))) for name in modalities},
        targets=torch.from_numpy(np.concatenate(targets)),
        person=torch.from_numpy(person),
        clip=torch.from_numpy(clip_index),
        spans_s=torch.from_numpy(np.concatenate(spans)),
        people=people,
    )
    return CorpusWindows(
        windows,
        tuple(labels for labels, _ in aligned),
        tuple(note for _, note in aligned if note is not None),
        key=" ".join(file.stem for file in files),
    )


def _frame_labels(clip: Clip, frame_times_s: NDArray[np.generic]) -> tuple[FrameLabels | None, str | None]:
    """The clip's labels, where it has such, at the times of their frames; and what `align_labels` says of them."""
    if clip.labels is None:
        return None, None
    values, note = align_labels(clip.labels, len(frame_times_s), clip.id)
    return FrameLabels(frame_times_s.astype(np.float64), values), note


def _targets(clip: Clip, labels: FrameLabels | None, spans_s: NDArray[np.float64]) -> NDArray[np.generic]:
    if labels is not None:
        return labels.mean_in(spans_s)
    return np.full(len(spans_s), -1 if clip.level is None else clip.level, np.int64)

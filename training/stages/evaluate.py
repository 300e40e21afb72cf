"""What a student says of people whom nothing else has seen."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.outputs import label_probabilities
from training.data.window_set import WindowSet
from training.scores.groups import GroupReport, scores_by_group
from training.scores.metrics import score_by_person, spread_over_frames
from training.scores.predictions import Predictions
from training.stages.setting import Setting, run_over

Floats = NDArray[np.float64]


def predict_people(
    setting: Setting, net: nn.Module, needed: Sequence[str], windows: WindowSet, *, temperature: float | None = None
) -> Predictions:
    """What `net`, which needs the modalities `needed`, says of the people of `windows`, usually the test people.

    No clip and no labelled frame is left out: a clip without an answer is wrong, and a frame without one gets the
    value of the last window that began before it, else of the clip's first, or the training mean where its clip has no
    answered window. A labelled window has its own answer; without one it is taken for a frame at its middle.
    With a `temperature` levels and classes are `calibrated` too.
    """
    answered = windows.with_all(needed)
    task = setting.config.task
    outputs = (
        run_over(net, answered, setting.device).output.numpy() if len(answered) else np.zeros((0, setting.outputs))
    )
    if task == "pain" or task == "classification":
        said = _of_clips(setting, windows, answered, label_probabilities(task, outputs))
        if temperature is None:
            return said
        cooled = _of_clips(setting, windows, answered, label_probabilities(task, outputs, temperature))
        return replace(said, calibrated=cooled.said)
    return _of_values(setting, windows, answered, outputs.astype(np.float64))


def predict_constant(setting: Setting, windows: WindowSet) -> Predictions:
    """What is said of `windows` by an answer that ignores its input: what a net must beat to have learnt anything.

    Levels and classes: their shares among the training windows that have a label; values: the mean of those.
    """
    targets = setting.train.labelled().targets
    if targets.ndim == 1:
        shares = torch.bincount(targets, minlength=len(setting.corpus.levels)).double() / len(targets)
        return _of_clips(setting, windows, windows, shares.numpy()[None].repeat(len(windows), axis=0))
    nothing = windows.pick(torch.zeros(len(windows), dtype=torch.bool))
    return _of_values(setting, windows, nothing, np.zeros((0, setting.outputs)))


def _of_clips(setting: Setting, windows: WindowSet, answered: WindowSet, said: Floats) -> Predictions:
    """Each clip's probabilities are the mean over its windows'."""
    clips = np.unique(windows.labelled().clip.numpy())
    owner = answered.clip.numpy()
    means = np.full((len(clips), said.shape[1]), np.nan)
    for i, clip in enumerate(clips):
        if (own := owner == clip).any():
            means[i] = said[own].mean(axis=0)
    chosen = [setting.corpus.clips[clip] for clip in clips]
    return Predictions(
        task=setting.config.task,
        names=setting.corpus.levels,
        person=np.array([clip.subject for clip in chosen]),
        item=np.array([clip.id for clip in chosen]),
        truth=np.array([clip.level for clip in chosen], np.int64),
        said=means,
    )


def _of_values(setting: Setting, windows: WindowSet, answered: WindowSet, outputs: Floats) -> Predictions:
    """Values of each labelled frame; where a corpus labels windows and not frames, of each window."""
    fallback = setting.train.labelled().targets.double().mean(dim=0).numpy()
    person, item, truth, said = [], [], [], []
    for clip in np.unique(windows.clip.numpy()):
        of_clip = answered.clip.numpy() == clip
        seen, given = answered.pick(torch.from_numpy(of_clip)), outputs[of_clip]
        frames = setting.frames[clip]
        if frames is None:
            labelled = windows.pick(windows.clip == int(clip)).labelled()
            times_s, values = labelled.spans_s.mean(dim=1).numpy(), labelled.targets.double().numpy()
        else:
            there = np.isfinite(frames.values).all(axis=1)
            times_s, values = frames.times_s[there], frames.values[there].astype(np.float64)
        truth.append(values)
        said.append(spread_over_frames(times_s, seen.spans_s.numpy(), given, fallback))
        if frames is None:  # windows may overlap, and each has an answer of its own
            _, at, by = np.intersect1d(labelled.rows.numpy(), seen.rows.numpy(), True, return_indices=True)
            said[-1][at] = given[by]
        who = setting.corpus.clips[clip]
        person += [who.subject] * len(times_s)
        item += [f"{who.id} {i:07d}" for i in range(len(times_s))]
    return Predictions(
        task=setting.config.task,
        names=setting.corpus.values or ("valence", "arousal"),
        person=np.array(person),
        item=np.array(item),
        truth=np.concatenate(truth),
        said=np.concatenate(said),
    )


def group_scores(setting: Setting, said: Predictions) -> dict[str, GroupReport]:
    """Scores by sex, age and whatever the corpus says of its people."""
    scores = score_by_person(said.task, said.said, said.truth, said.person)
    people, counts = np.unique(said.person, return_counts=True)
    clips = {str(who): int(count) for who, count in zip(people, counts, strict=True)}
    return scores_by_group(scores, clips, setting.corpus.groups)

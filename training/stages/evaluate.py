"""Evaluation on people whom nothing else has seen, and the conformal calibration on people of their own."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.manifest import Calibration
from models.outputs import conformal_quantile, corn_probabilities, pain_scores, value_scores
from training.data import WindowSet
from training.metrics import affect_metrics, pain_metrics, spread_over_frames
from training.stages.setting import Setting, run_over


def evaluate(setting: Setting, net: nn.Module, needed: Sequence[str]) -> dict[str, float]:
    """Scores of `net`, which needs the modalities `needed`, on the test people.

    No clip and no labelled frame is left out: a clip without an answer counts as wrong, and a frame without one gets
    the nearest window's value, or the training mean where its clip has no answered window.
    """
    answered = setting.test.with_all(needed)
    outputs = run_over(net, answered, setting.device).output.numpy() if len(answered) else None
    if setting.config.task == "pain":
        return _evaluate_pain(setting, answered, outputs)
    return _evaluate_affect(setting, answered, outputs)


def _evaluate_pain(setting: Setting, answered: WindowSet, outputs: NDArray[np.generic] | None) -> dict[str, float]:
    clips = np.unique(setting.test.labelled().clip.numpy())
    levels = np.array([setting.corpus.clips[c].level for c in clips], np.int64)
    predicted = np.full(len(clips), -1, np.int64)
    if outputs is not None:
        probabilities = corn_probabilities(outputs)
        owner = answered.clip.numpy()
        for i, clip in enumerate(clips):
            if (own := owner == clip).any():
                predicted[i] = probabilities[own].mean(axis=0).argmax()
    return pain_metrics(predicted, levels, len(setting.corpus.levels))


def _evaluate_affect(setting: Setting, answered: WindowSet, outputs: NDArray[np.generic] | None) -> dict[str, float]:
    fallback = setting.train.labelled().targets.double().mean(dim=0).numpy()
    values, truth = [], []
    for clip in np.unique(setting.test.clip.numpy()):
        frames = setting.frames[clip]
        assert frames is not None  # every clip of a valence-arousal corpus has labels
        labelled = np.isfinite(frames.values).all(axis=1)
        own = answered.clip.numpy() == clip
        windows = outputs[own] if outputs is not None else np.zeros((0, 2))
        spans_s = answered.spans_s.numpy()[own]
        values.append(spread_over_frames(frames.times_s[labelled], spans_s, windows.astype(np.float64), fallback))
        truth.append(frames.values[labelled].astype(np.float64))
    return affect_metrics(np.concatenate(values), np.concatenate(truth))


def calibrate(setting: Setting, net: nn.Module, needed: Sequence[str]) -> Calibration:
    """Split-conformal quantiles on the calibration people's windows; None with the reason where they are too few."""
    windows = setting.calibrate.labelled().with_all(needed)
    level = setting.config.confidence_level
    scores = _scores(setting, net, windows)
    quantiles = {name: conformal_quantile(values, level) for name, values in scores.items()}
    too_few = f"{len(windows)} calibration windows are too few for {level:.0%}: no set or interval is given"
    return Calibration(
        confidence_level=level,
        quantiles=quantiles,
        people=len(torch.unique(windows.person)),
        windows=len(windows),
        reason=too_few if None in quantiles.values() else None,
    )


def _scores(setting: Setting, net: nn.Module, windows: WindowSet) -> dict[str, NDArray[np.float64]]:
    names = ("pain",) if setting.config.task == "pain" else ("valence", "arousal")
    if not len(windows):
        return {name: np.zeros(0) for name in names}
    outputs = run_over(net, windows, setting.device).output.numpy()
    if setting.config.task == "pain":
        return {"pain": pain_scores(corn_probabilities(outputs), windows.targets.numpy())}
    truth = windows.targets.double().numpy()
    return {name: value_scores(outputs[:, i].astype(np.float64), truth[:, i]) for i, name in enumerate(names)}

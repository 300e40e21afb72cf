"""Calibration of one student: a temperature from the selection people, conformal quantiles from people of their own.

Whether the sets and intervals hold is measured on the test people, person by person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.manifest import Calibration, Coverage, output_names
from models.outputs import (
    conformal_intervals,
    conformal_sets,
    label_probabilities,
    label_scores,
    value_range,
    value_scores,
)
from training.data.window_set import WindowSet
from training.scores.calibrate import (
    OutOfFold,
    TemperatureFit,
    conformal_calibration,
    fit_temperature,
    interval_coverage,
    set_coverage,
)
from training.scores.predictions import Predictions
from training.stages.setting import Setting, run_over

Floats = NDArray[np.float64]

KNOWN_PEOPLE = (
    "the calibration clips are of people who train too, which says nothing of a new person: no set or interval is given"
)
"""What `clip-kfold` deals."""


@dataclass(frozen=True)
class Said:
    """What a student says of some people's labelled windows."""

    output: Floats
    """(N, ...): probabilities, or values."""
    truth: NDArray[np.generic]
    person: NDArray[np.int64]


def calibrate(
    setting: Setting, net: nn.Module, needed: Sequence[str], out_of_fold: OutOfFold | None = None
) -> tuple[Calibration, TemperatureFit | None]:
    """What the bundle needs, coverage on the test people included, and how the temperature was found, if there is one.

    Sets and intervals hold for a window of a new person (hierarchical conformal). With too few calibration people, and
    where these train too, there are none, and the calibration says why; or, where they are few and `out_of_fold` has
    scores of training people by nets that did not see them, a heuristic from these and the calibration people's.
    """
    fit = fitted_temperature(setting, net, needed)
    temperature = fit.temperature if fit else 1.0
    own = said_of(setting, net, setting.calibrate.with_all(needed), temperature)
    scores = output_scores(setting, own)
    calibration = conformal_calibration(
        scores,
        own.person,
        setting.config.confidence_level,
        temperature=temperature,
        out_of_fold=out_of_fold and _pooled(out_of_fold, OutOfFold(scores, own.person)),
    )
    if setting.config.splits.protocol == "clip-kfold" and calibration.kind == "conformal":
        nothing = dict.fromkeys(calibration.quantiles)
        calibration = calibration.model_copy(update={"quantiles": nothing, "reason": KNOWN_PEOPLE})
    tested = setting.test.with_all(needed).labelled()
    if None not in calibration.quantiles.values() and len(tested):
        coverage = _coverage(setting, said_of(setting, net, tested, temperature), calibration.quantiles)
        calibration = calibration.model_copy(update={"coverage": coverage})
    return calibration, fit


def _pooled(one: OutOfFold, other: OutOfFold) -> OutOfFold:
    scores = {name: np.concatenate([one.scores[name], other.scores[name]]) for name in one.scores}
    return OutOfFold(scores, np.concatenate([one.person, other.person]))


def fitted_temperature(setting: Setting, net: nn.Module, needed: Sequence[str]) -> TemperatureFit | None:
    """The temperature that the selection people give `net`; None for tasks without probabilities."""
    task = setting.config.task
    if task != "pain" and task != "classification":
        return None
    chosen = setting.select.with_all(needed).labelled()
    logits = run_over(net, chosen, setting.device).output.numpy()
    return fit_temperature(logits, chosen.targets.numpy(), task)


def temperature_metrics(fit: TemperatureFit, tested: Predictions) -> dict[str, float | None]:
    """`fit`, whose errors are of the selection people's windows, and the calibration errors of the test items."""
    before, after = tested.calibration_error(), tested.with_temperature().calibration_error()
    return {**fit._asdict(), "test_ece_before": before, "test_ece_after": after}


def said_of(setting: Setting, net: nn.Module, windows: WindowSet, temperature: float) -> Said:
    """What `net` says of the labelled ones of `windows`."""
    windows = windows.labelled()
    person = windows.person.numpy()
    if not len(windows):
        return Said(np.zeros((0, max(2, setting.outputs + 1))), windows.targets.numpy(), person)
    task, output = setting.config.task, run_over(net, windows, setting.device).output.numpy().astype(np.float64)
    if task == "pain" or task == "classification":
        output = label_probabilities(task, output, temperature)
    return Said(output, windows.targets.numpy(), person)


def _names(setting: Setting) -> tuple[str, ...]:
    return output_names(setting.config.task, setting.corpus.values)


def output_scores(setting: Setting, said: Said) -> dict[str, Floats]:
    """Conformity scores (N,) by output."""
    if said.truth.ndim == 1:
        return {_names(setting)[0]: label_scores(said.output, said.truth.astype(np.int64))}
    truth = said.truth.astype(np.float64)
    return {name: value_scores(said.output[:, i], truth[:, i]) for i, name in enumerate(_names(setting))}


def _coverage(setting: Setting, said: Said, quantiles: Mapping[str, float | None]) -> dict[str, Coverage]:
    found = {}
    for i, name in enumerate(_names(setting)):
        quantile = quantiles[name]
        assert quantile is not None  # the caller saw to it
        if said.truth.ndim == 1:
            sets = conformal_sets(said.output, quantile)
            covered = set_coverage(sets, said.truth.astype(np.int64), said.person)
        else:
            intervals = conformal_intervals(said.output[:, i], quantile, value_range(setting.config.task))
            covered = interval_coverage(intervals, said.truth[:, i].astype(np.float64), said.person)
        found[name] = Coverage(**covered._asdict())
    return found

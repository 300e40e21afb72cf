"""The tensors that an answer can hold: what the graph puts out, and what its calibration makes of it.

Axes: N windows, K levels or classes, V values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Calibration, GraphSpec, Manifest
from models.manifest import output_names as calibrated_names
from models.outputs import (
    conformal_intervals,
    conformal_sets,
    label_probabilities,
    value_range,
)
from service.oip.datatypes import BOOL, FP32, Datatype

Array = NDArray[np.generic]
Tensors = dict[str, Array]


class OutputSpec(NamedTuple):
    """One tensor of an answer; `width` is None where a window has one number."""

    name: str
    datatype: Datatype
    width: int | None


def output_specs(manifest: Manifest, graphs: Sequence[GraphSpec]) -> list[OutputSpec]:
    """What these graphs can answer with; sets and intervals only where one of them has a valid quantile."""
    calibrated = any(q is not None for graph in graphs for q in graph.calibration.quantiles.values())
    if manifest.levels:
        levels = len(manifest.levels)
        specs = [OutputSpec("logits", FP32, levels - 1 if manifest.task == "pain" else levels)]
        specs.append(OutputSpec("probabilities", FP32, levels))
        if manifest.task == "pain":
            specs.append(OutputSpec("expected", FP32, None))
        return [*specs, OutputSpec("conformal_set", BOOL, levels)] if calibrated else specs
    width = len(calibrated_names(manifest.task, manifest.values))
    names = ("values", "lower", "upper") if calibrated else ("values",)
    return [OutputSpec(name, FP32, width) for name in names]


def answered(raw: Array) -> NDArray[np.bool_]:
    """Which windows (N,) of a graph's output (N, ...) have an answer: those whose numbers are all finite."""
    return np.asarray(np.isfinite(raw).all(axis=1))


def of_observed(raw: Array, observed: NDArray[np.bool_]) -> Array:
    """`raw` (N, ...), NaN in the windows (N,) that were not observed: a graph fills gaps, and would make up an answer.

    Training and evaluation leave such windows out.
    """
    return raw if observed.all() else np.where(observed[:, None], raw, np.float32(np.nan))


def output_tensors(
    manifest: Manifest, graph: GraphSpec, raw: Array, finite: NDArray[np.bool_], names: Sequence[str]
) -> list[Array]:
    """The named tensors (N, ...) of `raw` (N, ...), of which the `finite` windows (N,) have an answer.

    The others are NaN in every float, and False in the conformal set.
    """
    raw = np.asarray(raw, FP32.dtype)
    if not finite.all():
        raw = np.where(finite[:, None], raw, np.float32(np.nan))
    made: Tensors = {"logits": raw, "values": raw}
    if not made.keys() >= set(names):
        calibration = graph.calibration
        made |= levels(manifest, calibration, raw, finite) if manifest.levels else interval(manifest, calibration, raw)
    return [made[name] for name in names]


def levels(manifest: Manifest, calibration: Calibration, logits: Array, finite: NDArray[np.bool_]) -> Tensors:
    """Probabilities (N, K) of logits, the mean index (N,), and the conformal set (N, K) where it has a quantile."""
    (quantile,) = calibration.quantiles.values()
    assert manifest.task == "pain" or manifest.task == "classification"  # the tasks that have levels
    probabilities = label_probabilities(manifest.task, logits, calibration.temperature)
    made: Tensors = {
        "probabilities": probabilities.astype(FP32.dtype),
        "expected": (probabilities @ np.arange(len(manifest.levels))).astype(FP32.dtype),
    }
    if quantile is not None:
        made["conformal_set"] = conformal_sets(probabilities, quantile) & finite[:, None]
    return made


def interval(manifest: Manifest, calibration: Calibration, values: Array) -> Tensors:
    """Both ends (N, V) of the conformal intervals; NaN for a value without a valid quantile."""
    limits = value_range(manifest.task)
    ends = np.full((*values.shape, 2), np.nan, FP32.dtype)  # (N, V, 2)
    for place, name in enumerate(calibrated_names(manifest.task, manifest.values)):
        quantile = calibration.quantiles[name]
        if quantile is not None:
            ends[:, place] = conformal_intervals(np.asarray(values[:, place], np.float64), quantile, limits)
    return {"lower": ends[..., 0], "upper": ends[..., 1]}

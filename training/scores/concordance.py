"""CCC pooled over people from a few numbers of each, so that thousands of resamples cost one matrix product.

Axes: P people, N frames, D draws.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def person_moments(values: Floats, truth: Floats, person: NDArray[np.generic]) -> Floats:
    """What one output's pooled CCC needs of each person, (N,), (N,) and (N,) to (P, 6), people in sorted order.

    Columns: frames, mean value, mean truth, variance of the values, of the truth, and their covariance (population).

    >>> person_moments(np.array([0.0, 2.0, 5.0]), np.array([1.0, 1.0, 4.0]), np.array(["a", "a", "b"])).tolist()
    [[2.0, 1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 5.0, 4.0, 0.0, 0.0, 0.0]]
    """
    _, owner = np.unique(person, return_inverse=True)
    frames = np.bincount(owner).astype(np.float64)  # (P,)

    def mean(x: Floats) -> Floats:
        return np.bincount(owner, x) / frames

    mean_v, mean_t = mean(values), mean(truth)
    v, t = values - mean_v[owner], truth - mean_t[owner]
    return np.stack([frames, mean_v, mean_t, mean(v * v), mean(t * t), mean(v * t)], axis=1)


class PooledMoments(NamedTuple):
    """Over all frames of a draw: (D, ...) each, ... being leading axes such as seeds and outputs."""

    bias: Floats
    """Mean value less mean truth."""
    variance: Floats
    """Of the values (population)."""
    truth_variance: Floats
    covariance: Floats


def pooled_moments(weights: Floats, moments: Floats) -> PooledMoments:
    """Over all frames of people who count `weights` (D, P) times, from `person_moments` (..., P, 6)."""
    sums = np.tensordot(weights, _sums(moments), axes=(1, -2))  # (D, ..., 6)
    frames, v, t, vv, tt, vt = np.moveaxis(sums, -1, 0)  # (D, ...) each
    v, t = v / frames, t / frames
    return PooledMoments(v - t, vv / frames - v * v, tt / frames - t * t, vt / frames - v * t)


def pooled_ccc(weights: Floats, moments: Floats) -> Floats:
    """CCC over all frames of people who count `weights` (D, P) times, (..., P, 6) to (D,); 0 where all is constant.

    Lin (Biometrics 45, 1989) with population moments. Leading axes, such as seeds and outputs, are averaged after the
    CCC is taken.
    """
    pooled: Floats = ccc_of(pooled_moments(weights, moments)).reshape(len(weights), -1).mean(axis=1)
    return pooled


def ccc_of(m: PooledMoments) -> Floats:
    """Lin's CCC of each draw, (D, ...); 0 where all is constant."""
    spread = m.variance + m.truth_variance + m.bias**2
    return np.divide(2.0 * m.covariance, spread, out=np.zeros_like(spread), where=spread > 0)


def _sums(moments: Floats) -> Floats:
    """Sums of 1, v, t, v², t², v·t by person, (..., P, 6), about the truth's mean, where nothing cancels."""
    frames, mean_v, mean_t, var_v, var_t, covariance = np.moveaxis(moments, -1, 0)  # (..., P) each
    centre = (frames * mean_t).sum(axis=-1, keepdims=True) / frames.sum(axis=-1, keepdims=True)
    v, t = mean_v - centre, mean_t - centre
    ones = np.ones_like(v)
    means = np.stack([ones, v, t, var_v + v * v, var_t + t * t, covariance + v * t], axis=-1)  # (..., P, 6)
    sums: Floats = frames[..., None] * means
    return sums

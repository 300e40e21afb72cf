"""Random functions of time and place that the synthetic corpora are made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Trace = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, n: int, rate_hz: float, correlation_s: float) -> Trace:
    """Ornstein-Uhlenbeck noise, smoothed once more: (n,), mean 0, standard deviation about 1 over long times.

    Two poles at `correlation_s`, started in the stationary state by running in for five correlation times.
    """
    run_in = int(5 * correlation_s * rate_hz) + 1
    keep = np.exp(-1 / (correlation_s * rate_hz))
    lags = np.arange(int(12 * correlation_s * rate_hz) + 2, dtype=np.float64)
    kernel = (lags + 1) * keep**lags  # the impulse response of two equal poles
    kernel /= np.sqrt((kernel**2).sum())
    white = rng.standard_normal(n + run_in + len(kernel))
    return convolve(white, kernel)[run_in + len(kernel) - 1 :][:n].astype(np.float32)


def convolve(x: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first len(x) values of the convolution, by FFT."""
    size = 1 << (len(x) + len(kernel)).bit_length()
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(kernel, size), size)[: len(x)]


def smooth_noise_image(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Trace:
    """Bilinear noise over `shape` (rows, columns), deviation near 1, from `cells` (columns, rows) of random nodes."""
    nodes = rng.standard_normal((cells[1] + 1, cells[0] + 1)).astype(np.float32)
    y, x = (
        np.linspace(0, cell, size, endpoint=False, dtype=np.float32)
        for cell, size in zip(cells[::-1], shape, strict=True)
    )
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[:, None], (x - j)[None]
    top = nodes[i][:, j] * (1 - fx) + nodes[i][:, j + 1] * fx
    bottom = nodes[i + 1][:, j] * (1 - fx) + nodes[i + 1][:, j + 1] * fx
    return np.asarray(1.5 * (top * (1 - fy) + bottom * fy), np.float32)


def smoothstep(x: NDArray[Any]) -> Trace:
    """0 below 0, 1 above 1, a smooth rise between."""
    t = np.clip(x, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def episode(time_s: Trace, onset_s: float, rise_s: float, hold_s: float, fall_s: float) -> Trace:
    """A course that rises to 1 from `onset_s` on, stays, and falls back."""
    rise = smoothstep((time_s - onset_s) / rise_s)
    return rise - smoothstep((time_s - onset_s - rise_s - hold_s) / fall_s)


def random_episodes(rng: np.random.Generator, time_s: Trace, per_minute: float, length_s: tuple[float, float]) -> Trace:
    """Poisson episodes, each of random strength 0.3..1 and a length in `length_s`; the strongest counts."""
    course = np.zeros_like(time_s)
    duration_s = float(time_s[-1]) + length_s[1]
    for _ in range(int(rng.poisson(per_minute * duration_s / 60))):
        length = rng.uniform(*length_s)
        onset = rng.uniform(-length_s[1], float(time_s[-1]))
        strength = np.float32(rng.uniform(0.3, 1.0))
        course = np.maximum(course, strength * episode(time_s, onset, 0.3 * length, 0.3 * length, 0.4 * length))
    return course

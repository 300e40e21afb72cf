"""Computed physiology: skin conductance, ECG and trapezius EMG of a body that reacts.

A reaction is a trace r(t) ≥ 0. It raises the conductance (after a delay, in proportion to the level), the heart rate
(by beats a minute) and the muscle's activity (by a factor).
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.corpora.traces import convolve, random_episodes, smooth_noise

Signal = NDArray[np.float64]

RATE_HZ: Final = 512.0
EDA_DELAY_S: Final = 0.6
BEAT: Final = (
    (-0.20, 0.025, 0.12),
    (-0.035, 0.009, -0.12),
    (0.0, 0.010, 1.0),
    (0.03, 0.010, -0.22),
    (0.26, 0.05, 0.28),
)
"""P, Q, R, S and T wave: time from the R peak (s), width (s), height."""


class Body(NamedTuple):
    """One person's resting state and how strongly each signal follows a reaction of 1."""

    conductance_us: float
    conductance_gain: float
    """Rise relative to the level."""
    heart_rate_bpm: float
    heart_gain_bpm: float
    r_peak_uv: float
    emg_uv: float
    emg_gain: float
    """Rise of the activity's logarithm."""


def draw_body(rng: np.random.Generator) -> Body:
    """One person's body; the gains differ by a tenth, so that the reaction can be read from every body."""
    return Body(
        conductance_us=rng.uniform(2, 10),
        conductance_gain=0.22 * rng.lognormal(0, 0.1),
        heart_rate_bpm=rng.uniform(58, 84),
        heart_gain_bpm=16 * rng.lognormal(0, 0.1),
        r_peak_uv=rng.uniform(600, 1300),
        emg_uv=rng.uniform(4, 8),
        emg_gain=1.5 * rng.lognormal(0, 0.1),
    )


def conductance(rng: np.random.Generator, body: Body, reaction: Signal, noise: float) -> Signal:
    """Skin conductance in µS: the level, its drift, responses to the reaction and spontaneous ones."""
    time_s = np.arange(len(reaction), dtype=np.float32) / np.float32(RATE_HZ)
    lag = np.arange(len(reaction)) / RATE_HZ
    kernel = np.exp(-lag / 6.0) - np.exp(-lag / 0.7)  # the bateman function of a response
    delayed = np.concatenate([np.zeros(round(EDA_DELAY_S * RATE_HZ)), reaction])[: len(reaction)]
    drive = np.maximum(np.diff(delayed, prepend=delayed[0]), 0)
    response = body.conductance_gain * convolve(drive, kernel)
    spontaneous = 0.06 * noise * random_episodes(rng, time_s, 3, (3.0, 6.0))
    drift = rng.normal(0, 0.012 * noise) * (time_s - time_s.mean())
    level = body.conductance_us * (1 + rng.normal(0, 0.05))
    sensor = 0.004 * noise * rng.standard_normal(len(reaction))
    return np.asarray(level * (1 + response + spontaneous + drift) + sensor, np.float64)


def heartbeat(rng: np.random.Generator, body: Body, reaction: Signal, noise: float) -> Signal:
    """ECG in µV: beats at a rate that follows the reaction and the breath, wander and noise."""
    n = len(reaction)
    time_s = np.arange(n) / RATE_HZ
    breath = 2.0 * noise * np.sin(2 * np.pi * (rng.uniform(0.2, 0.3) * time_s + rng.random()))
    smooth = convolve(np.pad(reaction, (n, 0), mode="edge"), np.full(256, 1 / 256))[n:]
    rate_bpm = body.heart_rate_bpm + rng.normal(0, 2.0 * noise) + body.heart_gain_bpm * smooth + breath
    beats = rng.random() + np.cumsum(rate_bpm) / (60 * RATE_HZ)
    peaks_s = np.interp(np.arange(np.floor(beats[0]), np.ceil(beats[-1]) + 1), beats, time_s)
    first, last = (beats[0] % 1) / (rate_bpm[0] / 60), (1 - beats[-1] % 1) / (rate_bpm[-1] / 60)
    peaks_s[0], peaks_s[-1] = time_s[0] - first, time_s[-1] + last
    ecg = np.zeros(n)
    for peak_s in peaks_s:
        for offset_s, width_s, height in BEAT:
            ecg += height * np.exp(-0.5 * ((time_s - peak_s - offset_s) / width_s) ** 2)
    wander = 0.06 * smooth_noise(rng, n, RATE_HZ, 0.5)
    return body.r_peak_uv * (ecg + noise * (wander + 0.015 * rng.standard_normal(n)))


def muscle(rng: np.random.Generator, body: Body, reaction: Signal, noise: float) -> Signal:
    """Surface EMG in µV: noise of about 20 to 200 Hz whose strength follows the reaction."""
    n = len(reaction)
    activity = body.emg_gain * reaction + 0.12 * noise * smooth_noise(rng, n, RATE_HZ, 0.3) + rng.normal(0, 0.1 * noise)
    white = rng.standard_normal(n + 2)
    band = (white[2:] - white[:-2]) / np.sqrt(2)  # no power at 0 and at 256 Hz
    return np.asarray(body.emg_uv * np.exp(activity) * band, np.float64)

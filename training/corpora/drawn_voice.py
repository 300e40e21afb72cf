"""A computed voice: syllables of harmonics under formants, whose sound follows valence and arousal.

Arousal raises pitch, loudness, brightness and the rate of syllables; valence moves the formants up (a smile shortens
the vocal tract), lets the pitch rise within syllables, and takes breath out of the voice.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpora.affect_model import CONTROL_HZ, Affect
from training.corpora.traces import smooth_noise

VOICE_HZ: Final = 16000
TOP_HZ: Final = 5000.0
VOWELS: Final = np.array([(310, 2200, 2900), (500, 1850, 2600), (730, 1250, 2500), (550, 900, 2450), (340, 950, 2350)])
"""First three formants of i, e, a, o, u (Hz), about a man's."""
BANDWIDTHS_HZ: Final = np.array([90.0, 120.0, 180.0])
FORMANT_WEIGHTS: Final = np.array([1.0, 0.55, 0.3])


def speak(rng: np.random.Generator, affect: Affect) -> NDArray[np.float32]:
    """The sound track of one video: float32 (samples,) in (-1, 1), 16 kHz."""
    n = len(affect.syllables)
    valence, arousal = affect.voice_valence, affect.voice_arousal
    base_hz, tract = (rng.uniform(185, 225), 1.16) if affect.female else (rng.uniform(105, 130), 1.0)
    within = syllable_phase(affect.syllables)
    contour = 0.22 * valence * (within - 0.5)  # octaves from a syllable's beginning to its end
    wobble = 0.03 * smooth_noise(rng, n, CONTROL_HZ, 0.1)
    pitch_hz = base_hz * 2 ** (0.5 * arousal + contour + wobble)
    vowel = vowel_course(rng, n) * (tract * rng.uniform(0.96, 1.04) * (1 + 0.16 * valence))[:, None]
    loudness = affect.syllables * 10 ** ((9.0 * arousal + rng.normal(0, 1)) / 20)
    tilt_db_per_octave = -9.0 + 5.0 * arousal
    voiced = harmonics(pitch_hz, vowel, loudness, tilt_db_per_octave)
    time = np.arange(len(voiced)) * (CONTROL_HZ / VOICE_HZ)
    breath = np.interp(time, np.arange(n), affect.syllables * (0.035 - 0.025 * valence.clip(-1, 1)))
    hiss = np.diff(rng.standard_normal(len(voiced) + 1))
    room = 10 ** (rng.uniform(-52, -42) / 20) * rng.standard_normal(len(voiced))
    return np.asarray(np.tanh(0.16 * voiced + 0.35 * breath * hiss + room), np.float32)


def syllable_phase(syllables: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each moment lies in its syllable, 0..1: syllables are what lies between the minima of the course."""
    falling = np.diff(syllables, prepend=syllables[0]) < 0
    starts = np.flatnonzero(falling[:-1] & ~falling[1:])
    edges = np.concatenate([[0], starts, [len(syllables)]])
    index = np.searchsorted(edges, np.arange(len(syllables)), side="right") - 1
    index = np.minimum(index, len(edges) - 2)
    since = np.arange(len(syllables)) - edges[index]
    return np.asarray(since / np.maximum(np.diff(edges)[index], 1), np.float32)


def vowel_course(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Formants (n, 3) that glide from vowel to vowel, about four a second."""
    knots = max(2, int(n / CONTROL_HZ * 4))
    chosen = VOWELS[rng.integers(len(VOWELS), size=knots)]
    at = np.linspace(0, knots - 1, n)
    return np.stack([np.interp(at, np.arange(knots), chosen[:, formant]) for formant in range(3)], axis=1)


def harmonics(
    pitch_hz: NDArray[np.floating],
    formants_hz: NDArray[np.float64],
    loudness: NDArray[np.floating],
    tilt: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Sum of the pitch's multiples up to 5 kHz, weighted by formants (n, 3) and spectral tilt (dB per octave)."""
    n = len(pitch_hz)
    samples = round(n / CONTROL_HZ * VOICE_HZ)
    time = np.arange(samples) * (CONTROL_HZ / VOICE_HZ)
    phase = 2 * np.pi * np.cumsum(np.interp(time, np.arange(n), pitch_hz)) / VOICE_HZ
    twice_cos = (2 * np.cos(phase)).astype(np.float32)
    before, sine = np.zeros(samples, np.float32), np.sin(phase).astype(np.float32)
    total = np.zeros(samples, np.float32)
    step = np.clip(time.astype(np.int32), 0, n - 1)
    fraction = (time - step).astype(np.float32)
    for number in range(1, int(TOP_HZ / pitch_hz.min()) + 1):
        hz = number * pitch_hz
        near = (hz[:, None] - formants_hz) / BANDWIDTHS_HZ
        weight = (FORMANT_WEIGHTS / np.sqrt(1 + near**2)).sum(axis=1) + 0.02
        weight = weight * loudness * 10 ** (tilt * np.log2(number) / 20) * np.clip((TOP_HZ - hz) / 500, 0, 1)
        weight = np.append(weight, weight[-1]).astype(np.float32)
        total += sine * (weight[step] + fraction * (weight[step + 1] - weight[step]))
        before, sine = sine, twice_cos * sine - before  # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x)
    return total

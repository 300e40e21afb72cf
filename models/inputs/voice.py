"""What a network hears: log-mel energies of mono sound, and how loud it is."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.spec import VoiceSpec

POWER_FLOOR = 1e-6
LOUDNESS_FLOOR_DB = -120.0
SILENCE_DB = -60.0
"""Below this RMS level a part counts as silent: well under speech in a bad room, well over a digital noise floor."""


def log_mel(samples: NDArray[np.float32], spec: VoiceSpec, steps: int) -> NDArray[np.float32]:
    """Natural logarithm of mel-band power: samples (n,) at `spec.sample_rate_hz` → float32 (mels, steps).

    Column k covers [k * step_s, k * step_s + frame_s) under a Hann window; where the sound has ended there are zeros,
    so the column falls to log(POWER_FLOOR). Raises ValueError where `spec`'s bands do not fit its rate and frame.
    """
    frame = _frame_samples(spec)
    starts = np.round(np.arange(steps) * spec.step_s * spec.sample_rate_hz).astype(np.intp)  # (steps,)
    padded = np.zeros(int(starts[-1]) + frame if steps else 0, np.float32)
    heard = min(len(samples), len(padded))
    padded[:heard] = samples[:heard]
    frames = padded[starts[:, None] + np.arange(frame)] * _hann(frame)  # (steps, frame)
    spectrum = np.fft.rfft(frames, _fft_samples(spec))  # (steps, bins)
    power = spectrum.real**2 + spectrum.imag**2
    energy = mel_filters(spec) @ power.T.astype(np.float32)  # (mels, steps)
    return np.log(np.maximum(energy, np.float32(POWER_FLOOR)))


def loudness_db(samples: NDArray[np.float32]) -> float:
    """RMS level in dB of full scale, at least LOUDNESS_FLOOR_DB; a full-scale sine has −3."""
    if not len(samples):
        return LOUDNESS_FLOOR_DB
    mean_square = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(10 * float(np.log10(max(mean_square, 1e-30))), LOUDNESS_FLOOR_DB)


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether the RMS level lies under SILENCE_DB; so does no sound at all."""
    return loudness_db(samples) < SILENCE_DB


@lru_cache
def mel_filters(spec: VoiceSpec) -> NDArray[np.float32]:
    """Slaney's triangles (Auditory Toolbox, 1998): (mels, bins), each of area 1 over frequency in Hz."""
    if not spec.low_hz < spec.high_hz <= spec.sample_rate_hz / 2:
        raise ValueError(
            f"mel bands must lie between 0 and half of sample_rate_hz, which is {spec.sample_rate_hz / 2:g} Hz; "
            f"got low_hz {spec.low_hz:g}, high_hz {spec.high_hz:g}"
        )
    mels = np.linspace(_mel(spec.low_hz), _mel(spec.high_hz), spec.mels + 2)
    edges_hz = np.array([_hz(m) for m in mels])
    bins_hz = np.arange(_fft_samples(spec) // 2 + 1) * spec.sample_rate_hz / _fft_samples(spec)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]  # (mels, 1)
    rise, fall = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)  # (mels, bins)
    filters = np.maximum(0.0, np.minimum(rise, fall)) * 2 / (high - low)
    if not filters.any(axis=1).all():
        raise ValueError(
            f"{spec.mels} mel bands are finer than a frame of {spec.frame_s} s resolves; "
            "take fewer bands or longer frames"
        )
    cached: NDArray[np.float32] = filters.astype(np.float32)
    cached.flags.writeable = False
    return cached


def _frame_samples(spec: VoiceSpec) -> int:
    return max(round(spec.frame_s * spec.sample_rate_hz), 1)


def _fft_samples(spec: VoiceSpec) -> int:
    """The frame's length, up to the next power of two."""
    return 1 << (_frame_samples(spec) - 1).bit_length()


@lru_cache
def _hann(samples: int) -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)).astype(np.float32)


# Slaney's scale: linear at 200/3 Hz a mel up to 1 kHz (mel 15), then 27 mels a factor of 6.4
def _mel(hz: float) -> float:
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000)) / float(np.log(6.4))


def _hz(mel: float) -> float:
    return 200 * mel / 3 if mel < 15 else 1000 * float(6.4 ** ((mel - 15) / 27))

"""What a network hears of mono sound, as log-mel energies or as it is, and whether there is anything to hear."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.spec import LogMelSpec, VoiceSpec, WaveformSpec

POWER_FLOOR = 1e-6
SPEECH_HZ = (200.0, 3800.0)
"""Speech has most of its energy here; the hum of mains lies below."""
SILENCE_FRAME_S = 0.032
SILENCE_DB = -60.0
NOISE_DB = -47.0
NOISE_FLATNESS = 0.28
"""Measured as `is_silent` does it, over parts of 2 s at 16 kHz. 114 parts of speech (actors, and talking faces in a
room), scaled to −55 dB RMS, have a level of −57 dB or more and a flatness of 0.10 or less; with white noise 10 dB below
the speech 0.12, with as much noise as speech 0.23. White noise has a flatness of 0.53 to 0.63, pink noise 0.31 to 0.40;
at −45 dB RMS their levels are −48 and −49 dB or less. Hum of 50 or 60 Hz with harmonics, at −45 dB RMS, has −66 dB."""


def voice_window(samples: NDArray[np.float32], spec: VoiceSpec, window_s: float) -> NDArray[np.float32]:
    """A window's tensor from its samples (n,) at `spec.sample_rate_hz`: `log_mel` or `waveform`, float32.

    Raises ValueError as `log_mel` does.
    """
    if isinstance(spec, WaveformSpec):
        return waveform(samples, *spec.shape(window_s))
    return log_mel(samples, spec, spec.steps(window_s))


def waveform(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Mono samples (n,) as float32 (length,): a copy, cut, or with zeros where the sound has ended."""
    window = np.zeros(length, np.float32)
    heard = min(len(samples), length)
    window[:heard] = samples[:heard]
    return window


def log_mel(samples: NDArray[np.float32], spec: LogMelSpec, steps: int) -> NDArray[np.float32]:
    """Natural logarithm of mel-band power: samples (n,) at `spec.sample_rate_hz` → float32 (mels, steps).

    Column k covers [k * step_s, k * step_s + frame_s) under a Hann window; where the sound has ended there are zeros,
    so the column falls to log(POWER_FLOOR). Raises ValueError where `spec`'s bands do not fit its rate and frame.
    """
    frame = _frame_samples(spec)
    starts = np.round(np.arange(steps) * spec.step_s * spec.sample_rate_hz).astype(np.intp)  # (steps,)
    padded = waveform(samples, int(starts[-1]) + frame if steps else 0)
    frames = padded[starts[:, None] + np.arange(frame)] * _hann(frame)  # (steps, frame)
    spectrum = np.fft.rfft(frames, _fft_samples(spec))  # (steps, bins)
    power = spectrum.real**2 + spectrum.imag**2
    energy = mel_filters(spec) @ power.T.astype(np.float32)  # (mels, steps)
    return np.log(np.maximum(energy, np.float32(POWER_FLOOR)))


def is_silent(samples: NDArray[np.float32], rate_hz: int) -> bool:
    """Whether nobody can be heard in mono samples (n,): no sound at all, hum, or noise of a low level.

    What counts is the loudest tenth of frames of 32 ms in the band of speech. They are silent below SILENCE_DB (of full
    scale; a tenth, so that a click is no voice), and below NOISE_DB where their spectral flatness, the geometric over
    the arithmetic mean of power (Gray & Markel 1974), is NOISE_FLATNESS or more: speech has harmonics and formants.
    """
    power, weight = _speech_power(samples, rate_hz)
    level = power.sum(axis=1) * weight  # (frames,): the mean square within the band
    loudest = np.argsort(level)[-max(1, len(level) // 10) :]
    level_db = 10 * math.log10(max(float(level[loudest[0]]), 1e-30))
    if level_db < SILENCE_DB:
        return True
    chosen = np.maximum(power[loudest], 1e-20)
    flatness = np.exp(np.log(chosen).mean(axis=1)) / chosen.mean(axis=1)
    return level_db < NOISE_DB and float(np.median(flatness)) >= NOISE_FLATNESS


def _speech_power(samples: NDArray[np.float32], rate_hz: int) -> tuple[NDArray[np.float64], float]:
    """Power (frames, bins) in the band of speech, and what its sum is multiplied with to be a mean square."""
    frame = round(SILENCE_FRAME_S * rate_hz)
    padded = np.pad(samples, (0, max(0, frame - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[:: frame // 2] * _hann(frame)
    spectrum = np.fft.rfft(frames)  # (frames, bins)
    hz = np.fft.rfftfreq(frame, 1 / rate_hz)
    band = (hz >= SPEECH_HZ[0]) & (hz <= SPEECH_HZ[1])
    power: NDArray[np.float64] = spectrum.real[:, band] ** 2 + spectrum.imag[:, band] ** 2
    return power, 2 / (frame * float(np.square(_hann(frame), dtype=np.float64).sum()))


@lru_cache
def mel_filters(spec: LogMelSpec) -> NDArray[np.float32]:
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


def _frame_samples(spec: LogMelSpec) -> int:
    return max(round(spec.frame_s * spec.sample_rate_hz), 1)


def _fft_samples(spec: LogMelSpec) -> int:
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

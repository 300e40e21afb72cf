"""What is heard: odd rates, layouts and samples."""

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.media import MediaLimits

from .case import Case, Wanted
from .drawing import numbered
from .writing import Film, Sound, write


def tone(hz: float, seconds: float, rate_hz: int, amplitude: float = 0.5) -> NDArray[np.floating]:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def voice(seconds: float, rate_hz: int, amplitude: float = 0.5) -> NDArray[np.floating]:
    """Ten harmonics of 150 Hz, at a syllable's pace: `is_silent` takes it for a voice."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 11))
    return amplitude * wave / np.abs(wave).max()


def wav(samples: NDArray[np.floating], rate_hz: int = 16_000, codec: str = "pcm_s16le", layout: str = "mono") -> bytes:
    return write("wav", Sound(samples, rate_hz, codec, layout))


def wide_with_holes() -> bytes:
    """192 kHz, eight channels of float; every hundredth sample is no number, or infinite."""
    samples = np.repeat(voice(2.0, 192_000)[:, None], 8, axis=1)
    samples[::100] = np.nan
    samples[50::100, 3] = np.inf
    return wav(samples, 192_000, "pcm_f32le", "7.1")


def beside(picture_s: float, sound: NDArray[np.floating], *, start_s: float = 0.0) -> bytes:
    film = Film([numbered(i % 60) for i in range(round(picture_s * 25))])
    return write("matroska", film, Sound(sound, 16_000, start_s=start_s))


def channels(*columns: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.stack(columns, axis=1)


def two_rates() -> bytes:
    """ADTS, whose rate changes: two streams one after the other."""
    return b"".join(write("adts", Sound(voice(1.0, rate), rate, "aac")) for rate in (48_000, 24_000))


quiet = np.zeros(32_000)
loud = voice(2.0, 16_000)
heard = Wanted(level=0.5, hears=("voice", "voice"), duration_s=2.0)
silent = Wanted(hears=("silent", "silent"), duration_s=2.0)

CASES = [
    Case("odd rates and layouts", "8 kHz, mono, u8", lambda: wav(voice(2.0, 8000), 8000, "pcm_u8"), heard),
    Case(
        "odd rates and layouts",
        "192 kHz, eight channels, float with NaN",
        wide_with_holes,
        Wanted(hears=("voice", "voice"), duration_s=2.0),
    ),
    Case("odd rates and layouts", "44.1 kHz, A-law", lambda: wav(voice(2.0, 44_100), 44_100, "pcm_alaw"), heard),
    Case(
        "odd rates and layouts",
        "double that overshoots full scale",
        lambda: wav(4 * loud, codec="pcm_f64le"),
        Wanted(level=1.0, hears=("voice", "voice")),
    ),
    Case("odd rates and layouts", "a rate that changes", two_rates, Wanted(hears=("voice", "voice"))),
    Case(
        "odd rates and layouts",
        "over the limits",
        lambda: wav(np.zeros((1600, 8)), 192_000, "pcm_f32le", "7.1"),
        Wanted(refused="too_large", says=("192000 samples a second", "96000")),
        MediaLimits(max_sample_rate_hz=96_000),
    ),
    Case("silence", "digital", lambda: wav(quiet), silent),
    Case("silence", "no sample is a number", lambda: wav(np.full(32_000, np.nan), codec="pcm_f32le"), silent),
    Case("silence", "a constant", lambda: wav(np.full(32_000, 0.25)), silent),
    Case("silence", "hum of 50 Hz", lambda: wav(tone(50, 2.0, 16_000, 0.01)), silent),
    Case("silence", "channels that cancel out", lambda: wav(channels(loud, -loud), layout="stereo"), silent),
    Case(
        "silence",
        "in the first second only",
        lambda: wav(np.concatenate([quiet[:16_000], loud[:16_000]])),
        Wanted(hears=("silent", "voice")),
    ),
    Case(
        "silence",
        "in one of two channels",
        lambda: wav(channels(loud, quiet), layout="stereo"),
        Wanted(level=0.25, hears=("voice", "voice")),
    ),
    Case("too short", "0.2 s", lambda: wav(voice(0.2, 16_000)), Wanted(hears=("too_short",), duration_s=0.2)),
    Case("too short", "one sample", lambda: wav(loud[:1]), Wanted(hears=("too_short",))),
    Case(
        "picture and sound of unlike length",
        "sound longer",
        lambda: beside(1.0, voice(3.0, 16_000)),
        Wanted(duration_s=3.0, hears=("voice",) * 3),
    ),
    Case(
        "picture and sound of unlike length",
        "picture longer",
        lambda: beside(3.0, voice(1.0, 16_000)),
        Wanted(duration_s=3.0, hears=("voice", "too_short", "too_short")),
    ),
    Case(
        "picture and sound of unlike length",
        "sound begins later",
        lambda: beside(2.0, voice(1.0, 16_000), start_s=1.0),
        Wanted(duration_s=2.0, sounds_from_s=1.0, hears=("silent", "voice")),
    ),
]

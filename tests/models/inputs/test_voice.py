"""Mel bands, columns and levels, against closed forms and a slow transform."""

import math

import numpy as np
import pytest

from models.inputs.media.media import MediaLimits, read_sound
from models.inputs.voice import is_silent, log_mel, mel_filters, voice_window
from models.spec import LogMelSpec, WaveformSpec

SPEC = LogMelSpec()
FLOOR = math.log(1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 44100, 48000, 96000])
@pytest.mark.parametrize(("hz", "bands"), [(440, (7, 8)), (1000, (20, 20)), (3000, (44, 45))])
def test_a_tone_peaks_in_its_band_at_any_recorded_rate(rate_hz, hz, bands, write_sound, tone):
    """Slaney: mel(440) = 6.6, mel(1000) = 15, mel(3000) = 30.98; 64 bands divide 0.9 … 44.5 into 65 steps of 0.671."""
    samples = read_sound(write_sound(tone(hz, 1.0, rate_hz), rate_hz), SPEC.sample_rate_hz, MediaLimits())

    mel = log_mel(samples, SPEC, 90)

    assert (mel.shape, mel.dtype) == ((64, 90), np.float32)
    peaks = mel[:, 5:85].argmax(axis=0)
    assert set(peaks) <= set(bands)


def test_columns_after_the_sound_s_end_lie_at_the_floor(tone):
    samples = tone(440, 0.5, 16000).astype(np.float32)

    mel = log_mel(samples, SPEC, 200)

    assert mel.shape == (64, 200)
    assert mel[:, 50:] == pytest.approx(FLOOR)
    assert (mel[:, :47].max(axis=0) > 0).all()


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_less_sound_than_one_frame_is_padded(samples):
    mel = log_mel(np.ones(samples, np.float32), SPEC, 3)

    assert mel.shape == (64, 3)
    assert np.isfinite(mel).all()


@pytest.mark.parametrize(("heard", "kept"), [(3999, 3999), (4000, 4000), (4001, 4000), (0, 0)])
def test_a_waveform_is_the_samples_themselves_and_zeros_where_the_sound_has_ended(heard, kept):
    samples = np.random.default_rng(0).uniform(-1, 1, heard).astype(np.float32)

    window = voice_window(samples, WaveformSpec(sample_rate_hz=8000), 0.5)

    assert (window.shape, window.dtype) == ((4000,), np.float32)
    np.testing.assert_array_equal(window[:kept], samples[:kept])
    assert not window[kept:].any()
    assert not np.shares_memory(window, samples)


def test_a_window_of_another_form_is_its_energies():
    samples = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)

    np.testing.assert_array_equal(voice_window(samples, SPEC, 0.9), log_mel(samples, SPEC, 90))


def test_twice_the_amplitude_adds_the_logarithm_of_four():
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)

    louder, quieter = log_mel(2 * noise, SPEC, 90), log_mel(noise, SPEC, 90)

    assert louder - quieter == pytest.approx(2 * math.log(2), abs=1e-4)


def test_sound_moved_by_a_step_moves_the_columns_by_one():
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)

    assert log_mel(noise[160:], SPEC, 50) == pytest.approx(log_mel(noise, SPEC, 51)[:, 1:], abs=1e-4)


def test_the_transform_equals_its_definition():
    """Hann, Fourier and triangles written out, for one column."""
    spec = LogMelSpec(sample_rate_hz=8000, mels=8, high_hz=4000)
    samples = np.random.default_rng(2).normal(0, 0.2, 4000).astype(np.float32)
    column, frame, size = 7, 200, 256
    window = np.array([math.sin(math.pi * n / frame) ** 2 for n in range(frame)])
    part = samples[column * 80 : column * 80 + frame] * window
    power = [
        abs(sum(part[n] * np.exp(-2j * math.pi * k * n / size) for n in range(frame))) ** 2
        for k in range(size // 2 + 1)
    ]

    def to_mel(hz):
        return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) * 27 / math.log(6.4)

    def to_hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    edges = [to_hz(to_mel(60) + i * (to_mel(4000) - to_mel(60)) / 9) for i in range(10)]
    expected = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        energy = 0.0
        for k, p in enumerate(power):
            hz = k * 8000 / size
            if low < hz <= centre:
                energy += p * (hz - low) / (centre - low) * 2 / (high - low)
            elif centre < hz < high:
                energy += p * (high - hz) / (high - centre) * 2 / (high - low)
        expected.append(math.log(max(energy, 1e-6)))

    assert log_mel(samples, spec, 10)[:, column] == pytest.approx(expected, abs=1e-4)


def test_every_band_has_area_one_where_bins_are_fine():
    spec = LogMelSpec(frame_s=0.2)

    area = mel_filters(spec).sum(axis=1) * spec.sample_rate_hz / 4096

    assert area == pytest.approx(1, abs=0.03)


def test_filters_are_made_once_and_cannot_be_changed():
    assert mel_filters(LogMelSpec()) is mel_filters(LogMelSpec())
    with pytest.raises(ValueError, match="read-only"):
        mel_filters(SPEC)[0, 0] = 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LogMelSpec(sample_rate_hz=8000), "4000 Hz"),
        (LogMelSpec(low_hz=500, high_hz=400), "low_hz 500"),
        (LogMelSpec(mels=256), "256 mel bands"),
    ],
)
def test_bands_that_do_not_fit_are_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        log_mel(np.zeros(16000, np.float32), spec, 10)


def at_level(samples, level_db):
    """The same sound, scaled to an RMS level."""
    return (samples * 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(samples)))).astype(np.float32)


def noise(seed, tilt=0.0, rate_hz=16000):
    """Two seconds whose power falls with frequency to the power of `tilt`: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=2 * rate_hz))
    hz = np.maximum(np.fft.rfftfreq(2 * rate_hz, 1 / rate_hz), 0.5)
    return np.fft.irfft(spectrum / hz ** (tilt / 2))


def hum(hz, tone):
    return sum(tone(hz * k, 2.0, 16000, 1 / k**2) for k in range(1, 6))


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.zeros(32000), np.full(32000, 0.5)])
def test_nothing_and_a_constant_are_silent(samples):
    assert is_silent(samples.astype(np.float32), 16000)


@pytest.mark.parametrize(("level_db", "silent"), [(-59.5, False), (-60.5, True)])
@pytest.mark.parametrize("hz", [300, 1000, 3500])
def test_a_tone_within_the_band_of_speech_is_silent_below_sixty_decibels(hz, level_db, silent, tone):
    assert is_silent(at_level(tone(hz, 2.0, 16000), level_db), 16000) == silent


@pytest.mark.parametrize("level_db", [-48, -55, -70])
@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_white_noise_of_a_low_level_is_silence(level_db, rate_hz):
    for seed in range(5):
        assert is_silent(at_level(noise(seed, rate_hz=rate_hz), level_db), rate_hz)


@pytest.mark.parametrize("tilt", [1.0, 2.0])
def test_pink_and_brown_noise_of_a_low_level_are_silence(tilt):
    for seed in range(5):
        assert is_silent(at_level(noise(seed, tilt), -45), 16000)


@pytest.mark.parametrize("hz", [50, 60])
def test_hum_of_a_low_level_is_silence(hz, tone):
    assert is_silent(at_level(hum(hz, tone), -45), 16000)


def test_loud_noise_is_not_taken_for_silence():
    assert not is_silent(at_level(noise(0), -20), 16000)


@pytest.fixture(scope="module")
def speech(clips):
    """Two seconds of somebody who reads out a sentence."""
    recording = clips.parent / "grid_av" / "bbaf2n.mpg"
    if not recording.is_file():
        pytest.skip("needs the recordings in ../shared/data/grid_av")
    return read_sound(recording.read_bytes(), 16000, MediaLimits())[:32000]


@pytest.mark.parametrize("level_db", [-20, -40, -55])
def test_a_quiet_voice_is_no_silence(level_db, speech):
    assert not is_silent(at_level(speech, level_db), 16000)
    assert not is_silent(at_level(speech, level_db) + at_level(noise(0), level_db - 10)[: len(speech)], 16000)


def test_a_voice_in_as_much_noise_is_heard(speech):
    mixed = at_level(speech, -45) + at_level(noise(0), -45)[: len(speech)]

    assert not is_silent(mixed, 16000)


def test_a_click_in_silence_is_no_voice():
    samples = np.zeros(32000, np.float32)
    samples[15000:15100] = 0.5

    assert is_silent(samples, 16000)


def test_a_short_word_in_a_long_pause_is_heard(speech):
    loudest = int(np.argmax(np.convolve(speech**2, np.ones(4800), "valid")))
    samples = np.zeros(32000, np.float32)
    samples[20000:24800] = at_level(speech[loudest : loudest + 4800], -40)  # 0.3 of 2 s

    assert not is_silent(samples, 16000)

"""Samples at the right rate, level and time."""

import numpy as np
import pytest

from models.inputs.media.media import MediaLimits, probe, read_sound

LIMITS = MediaLimits()
RATE_HZ = 16000


def peak_hz(samples, rate_hz=RATE_HZ):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * rate_hz / len(samples)


FORMS = {
    "8 kHz u8": (8000, "wav", "pcm_u8", "mono"),
    "22 kHz mu-law": (22050, "wav", "pcm_mulaw", "stereo"),
    "48 kHz 5.1 float": (48000, "wav", "pcm_f32le", "5.1"),
    "96 kHz 24 bits": (96000, "wav", "pcm_s24le", "stereo"),
    "48 kHz double": (48000, "wav", "pcm_f64le", "mono"),
    "flac": (44100, "flac", "flac", "stereo"),
    "mp3": (44100, "mp3", "libmp3lame", "stereo"),
    "aac": (48000, "adts", "aac", "stereo"),
    "7.1 aac": (48000, "mp4", "aac", "7.1"),
    "aac in m4a": (44100, "ipod", "aac", "mono"),
    "alac": (44100, "ipod", "alac", "stereo"),
    "opus": (48000, "ogg", "libopus", "stereo"),
    "opus in webm": (48000, "webm", "libopus", "stereo"),
    "ac3 in a transport stream": (48000, "mpegts", "ac3", "5.1"),
    "mp2 in a program stream": (44100, "mpeg", "mp2", "stereo"),
    "eac3": (48000, "matroska", "eac3", "stereo"),
    "amr": (8000, "3gp", "libopencore_amrnb", "mono"),
}


@pytest.mark.parametrize(("rate_hz", "container", "codec", "layout"), FORMS.values(), ids=FORMS)
def test_a_tone_keeps_pitch_level_and_length(rate_hz, container, codec, layout, write_sound, tone):
    channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}[layout]
    played = np.repeat(tone(440, 2.0, rate_hz)[:, None], channels, axis=1)

    samples = read_sound(write_sound(played, rate_hz, container, codec, layout), RATE_HZ, LIMITS)

    assert samples.dtype == np.float32
    assert len(samples) / RATE_HZ == pytest.approx(2.0, abs=0.06)
    middle = samples[RATE_HZ // 2 : RATE_HZ * 3 // 2]
    assert peak_hz(middle) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
def test_channels_are_averaged_whatever_their_format(rate_hz, codec, write_sound):
    left, right = np.full(rate_hz, 0.5), np.full(rate_hz, 0.25)

    samples = read_sound(write_sound(np.stack([left, right], 1), rate_hz, "wav", codec, "stereo"), RATE_HZ, LIMITS)

    assert samples[2000:-2000] == pytest.approx(0.375, abs=2e-3)


CLICKS = {
    "wav": ("wav", "pcm_s16le", 48000),
    "same rate": ("wav", "pcm_s16le", 16000),
    "aac in mp4": ("mp4", "aac", 44100),
    "opus in webm": ("webm", "libopus", 48000),
    "mp3": ("mp3", "libmp3lame", 44100),
}


@pytest.mark.parametrize(("container", "codec", "rate_hz"), CLICKS.values(), ids=CLICKS)
def test_a_burst_is_heard_at_its_time(container, codec, rate_hz, write_sound, tone):
    """Encoders put some milliseconds of priming before the sound; it must not shift it."""
    played = np.zeros(rate_hz)
    played[rate_hz // 2 : rate_hz // 2 + rate_hz // 20] = tone(1000, 0.05, rate_hz, 0.8)

    samples = read_sound(write_sound(played, rate_hz, container, codec), RATE_HZ, LIMITS)

    power = np.convolve(samples**2, np.ones(80) / 80, "same")
    onset_s = np.argmax(power > power.max() / 4) / RATE_HZ
    assert onset_s == pytest.approx(0.5, abs=0.004)


def test_a_part_is_what_the_whole_holds_there(write_sound):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 48000 * 3)
    file = write_sound(noise, 48000)
    whole = read_sound(file, RATE_HZ, LIMITS)

    part = read_sound(file, RATE_HZ, LIMITS, start_s=1.0, end_s=1.75)

    assert len(part) == 12000
    assert np.abs(part - whole[16000:28000]).max() < 0.02


def test_an_end_beyond_the_track_is_cut_and_a_part_beyond_it_is_empty(write_sound, tone):
    file = write_sound(tone(440, 1.0, 16000), 16000)

    assert len(read_sound(file, RATE_HZ, LIMITS, start_s=0.5, end_s=9.0)) == 8000
    assert len(read_sound(file, RATE_HZ, LIMITS, start_s=5.0, end_s=9.0)) == 0


def test_sound_that_starts_after_the_picture_follows_silence(barcode, write_sound, tone):
    pictures = [barcode(i) for i in range(25)]
    file = write_sound(tone(440, 0.5, 48000), 48000, "matroska", "pcm_s16le", starts_s=[0.4], with_pictures=pictures)

    samples = read_sound(file, RATE_HZ, LIMITS)

    assert np.abs(samples[:6300]).max() == 0
    assert np.sqrt(np.mean(samples[6500:14000] ** 2)) == pytest.approx(0.354, rel=0.02)
    assert len(samples) / RATE_HZ == pytest.approx(0.9, abs=0.01)


def test_both_tracks_of_a_late_transport_stream_share_one_clock(barcode, write_sound, tone):
    pictures = [barcode(i) for i in range(25)]
    file = write_sound(
        tone(440, 0.5, 48000),
        48000,
        "mpegts",
        "mp2",
        starts_s=[26_000.5],
        with_pictures=pictures,
        pictures_start_s=26_000.0,
    )

    samples = read_sound(file, RATE_HZ, LIMITS)

    assert probe(file, LIMITS).duration_s == pytest.approx(1.0, abs=0.06)
    assert np.abs(samples[:7600]).max() < 1e-4
    assert np.sqrt(np.mean(samples[9500:15000] ** 2)) == pytest.approx(0.354, rel=0.05)


def test_a_gap_in_the_track_is_silence_of_its_length(write_sound, tone):
    file = write_sound(tone(440, 0.4, 48000), 48000, "matroska", "pcm_s16le", starts_s=[0.0, 1.0])

    samples = read_sound(file, RATE_HZ, LIMITS)

    assert np.abs(samples[6600:15800]).max() == 0
    assert np.abs(samples[16400:22000]).max() == pytest.approx(0.5, abs=0.01)
    assert len(samples) / RATE_HZ == pytest.approx(1.4, abs=0.01)


def test_numbers_that_are_not_finite_become_silence(write_sound):
    played = np.full(16000, 0.25)
    played[4000], played[8000], played[12000], played[14000] = np.nan, np.inf, -np.inf, 1e30

    samples = read_sound(write_sound(played, 16000, "wav", "pcm_f32le"), RATE_HZ, LIMITS)

    assert samples[[3999, 4000, 8000, 12000, 14000]].tolist() == [0.25, 0.0, 0.0, 0.0, 1.0]
    assert len(samples) == 16000


def test_a_silent_film_has_no_sound(barcode, write_video):
    assert read_sound(write_video([barcode(1)] * 3), RATE_HZ, LIMITS) is None


def test_a_tick_that_raises_ends_the_reading(write_sound, tone):
    def cancelled():
        raise InterruptedError("client left")

    with pytest.raises(InterruptedError):
        read_sound(write_sound(tone(440, 0.1, 8000), 8000), RATE_HZ, LIMITS, tick=cancelled)

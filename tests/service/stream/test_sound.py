"""PCM in pieces, at its time."""

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from service.stream.messages import SoundForm
from service.stream.sound import Hearing

RATE_HZ = 16_000
MONO = SoundForm(sample_rate=RATE_HZ, channels=1)


def joined(pieces: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def pcm(*values: int, samples: int) -> bytes:
    """`samples` samples, each of them these values, one a channel."""
    return np.tile(np.array(values, "<i2"), samples).tobytes()


def test_full_scale_is_one_and_channels_are_averaged() -> None:
    hearing = Hearing(SoundForm(sample_rate=RATE_HZ, channels=2), RATE_HZ)
    heard = joined(hearing.take(0.0, pcm(-32768, 16384, samples=100)))

    np.testing.assert_array_equal(heard, np.full(100, -0.25, np.float32))


@pytest.mark.parametrize("wander_s", [0.0, 0.04, -0.04])
def test_pieces_whose_times_wander_a_little_are_one_sound(wander_s: float) -> None:
    hearing = Hearing(MONO, RATE_HZ)
    heard = joined([*hearing.take(0.0, pcm(100, samples=1600)), *hearing.take(0.1 + wander_s, pcm(200, samples=1600))])

    np.testing.assert_array_equal(heard * 32768, [100] * 1600 + [200] * 1600)


def test_a_gap_is_silence() -> None:
    hearing = Hearing(MONO, RATE_HZ)
    heard = joined([*hearing.take(0.5, pcm(100, samples=1600)), *hearing.take(1.0, pcm(200, samples=1600))])

    np.testing.assert_array_equal(heard * 32768, [0] * 8000 + [100] * 1600 + [0] * 6400 + [200] * 1600)


def test_of_what_overlaps_the_earlier_stands() -> None:
    hearing = Hearing(MONO, RATE_HZ)
    pieces = [*hearing.take(0.0, pcm(100, samples=3200)), *hearing.take(0.1, pcm(200, samples=3200))]

    np.testing.assert_array_equal(joined(pieces) * 32768, [100] * 3200 + [200] * 1600)
    assert joined(hearing.take(0.0, pcm(50, samples=1600))).size == 0


def test_what_was_captured_before_the_stream_began_is_left_out() -> None:
    hearing = Hearing(MONO, RATE_HZ)

    np.testing.assert_array_equal(joined(hearing.take(-0.1, pcm(100, samples=2400))) * 32768, [100] * 800)


def test_what_is_filled_is_silence_and_sound_that_comes_for_it_later_is_left_out() -> None:
    hearing = Hearing(MONO, RATE_HZ)
    heard = joined([*hearing.take(0.0, pcm(100, samples=1600)), *hearing.fill(0.2), *hearing.fill(0.15)])
    late = joined(hearing.take(0.1, pcm(200, samples=3200)))

    np.testing.assert_array_equal(heard * 32768, [100] * 1600 + [0] * 1600)
    np.testing.assert_array_equal(late * 32768, [200] * 1600)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 96_000])
def test_another_rate_keeps_duration_and_tone(rate_hz: int) -> None:
    hearing = Hearing(SoundForm(sample_rate=rate_hz, channels=1), RATE_HZ)
    tone = np.round(16_000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)).astype("<i2")
    pieces = [
        piece for n in range(10) for piece in hearing.take(n / 10, tone[n * rate_hz // 10 :][: rate_hz // 10].tobytes())
    ]
    heard = joined([*pieces, *hearing.flush()])
    expected = 16_000 / 32_768 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)

    assert abs(len(heard) - RATE_HZ) <= 32
    np.testing.assert_allclose(heard[200:-200], expected[200 : len(heard) - 200], atol=2e-3)

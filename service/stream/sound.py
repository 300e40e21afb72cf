"""PCM that comes in pieces becomes mono sound at the rate of the network, without gaps."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from service.stream.messages import SoundForm

GAP_S: Final = 0.05
"""Capture times wander by so much; beyond it there is a real gap, or an overlap."""

Samples = NDArray[np.float32]


class Hearing:
    """Puts each piece at its time: zeros where nothing was sent; what comes for a time that is past is left out.

    All that it gives is float32 (n,) at `rate_hz`, the mean of the channels, full scale 1; the first sample of all lies
    at 0 s, and each piece follows the one before.
    """

    def __init__(self, form: SoundForm, rate_hz: int) -> None:
        self.form, self.rate_hz = form, rate_hz
        self.given = 0
        self.expected_s: float | None = None
        """Where the next piece begins if it continues the one before."""
        self.place = 0
        """Of the next sample that the resampler gives."""
        self.resampler: AudioResampler | None = None

    def take(self, time_s: float, pcm: bytes) -> Iterator[Samples]:
        """16-bit samples, little-endian, whose first was captured at `time_s`."""
        samples = np.frombuffer(pcm, "<i2").reshape(-1, self.form.channels)
        mono = samples.mean(axis=1, dtype=np.float32) / np.float32(32768)
        if self.expected_s is None or abs(time_s - self.expected_s) > GAP_S:
            yield from self.flush()
            self.resampler = AudioResampler(format="fltp", layout="mono", rate=self.rate_hz)
            self.expected_s, self.place = time_s, round(time_s * self.rate_hz)
        self.expected_s += len(mono) / self.form.sample_rate
        frame = AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
        frame.sample_rate = self.form.sample_rate
        yield from self.resampled(frame)

    def flush(self) -> Iterator[Samples]:
        """What the resampler still holds; the next piece begins anew."""
        yield from self.resampled(None)
        self.resampler, self.expected_s = None, None

    def fill(self, until_s: float) -> Iterator[Samples]:
        """Nothing was heard until then: zeros, where that is later than the sound so far."""
        if round(until_s * self.rate_hz) > self.given:
            yield from self.flush()
            yield from self.put(round(until_s * self.rate_hz), np.zeros(0, np.float32))

    def resampled(self, frame: AudioFrame | None) -> Iterator[Samples]:
        if self.resampler is None:
            return
        for out in self.resampler.resample(frame):
            samples = out.to_ndarray()[0].astype(np.float32, copy=False)
            yield from self.put(self.place, samples)
            self.place += len(samples)

    def put(self, place: int, samples: Samples) -> Iterator[Samples]:
        if place > self.given:
            yield np.zeros(place - self.given, np.float32)
            self.given = place
        rest = samples[self.given - place :]
        if len(rest):
            self.given += len(rest)
            yield rest

"""A recording's sound as mono samples at one rate, on the same clock as its frames."""

from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from models.inputs.media.container import (
    Media,
    MediaError,
    MediaLimits,
    Source,
    Tick,
    decoded,
    no_tick,
    open_media,
    refuse_over,
)
from models.inputs.media.picture import read_picture

GAP_S = 0.05
"""Containers round times, so timestamps may wander by so much; beyond it there is a real gap, or an overlap."""
MARGIN_S = 0.1
"""Resampled beyond both ends, so that the filter's own edges fall outside."""


class _Piece(NamedTuple):
    """Consecutive samples of the track: float32 (samples,), the first of them at `start_s`."""

    start_s: float
    mono: NDArray[np.float32]
    rate_hz: int

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.mono) / self.rate_hz

    def between(self, start_s: float, end_s: float) -> "_Piece":
        """The part that lies in [start_s, end_s]; it may be empty."""
        cut = min(max(round((start_s - self.start_s) * self.rate_hz), 0), len(self.mono))
        stop = max(round((end_s - self.start_s) * self.rate_hz), cut)
        return _Piece(self.start_s + cut / self.rate_hz, self.mono[cut:stop], self.rate_hz)


def read_sound(
    source: Source,
    rate_hz: int,
    limits: MediaLimits,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    tick: Tick = no_tick,
) -> NDArray[np.float32] | None:
    """All of `sound_pieces` in one array, float32 (samples,); None where there is no sound track. Raises MediaError."""
    if read_picture(source, limits) is not None:
        return None
    with open_media(source, limits) as media:
        if media.audio is None:
            return None
        return np.concatenate([np.zeros(0, np.float32), *_between(media, rate_hz, limits, start_s, end_s, tick)])


def sound_pieces(
    source: Source,
    rate_hz: int,
    limits: MediaLimits,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    tick: Tick = no_tick,
) -> Iterator[NDArray[np.float32]]:
    """The sound between two times (seconds from the recording's start), as it is decoded: float32 (n,) at `rate_hz`.

    The mean of the channels, full scale 1; NaN and infinity become 0. The first sample of all lies at `start_s`, and
    each piece follows the one before. Where the track has no samples (a late start, gaps, damage) there are zeros;
    where it has two for one time, the earlier ones in the file stand. The pieces end where the track ends, or at
    `end_s`; so there are none where the track holds nothing of that part, or where there is no sound track.
    Raises MediaError.
    """
    if read_picture(source, limits) is not None:
        return
    with open_media(source, limits) as media:
        if media.audio is not None:
            yield from _between(media, rate_hz, limits, start_s, end_s, tick)


def _between(
    media: Media, rate_hz: int, limits: MediaLimits, start_s: float, end_s: float | None, tick: Tick
) -> Iterator[NDArray[np.float32]]:
    end_s = limits.max_duration_s if end_s is None else min(end_s, limits.max_duration_s)
    pieces = _pieces(media, limits, start_s - MARGIN_S, end_s + MARGIN_S, tick)
    try:
        yield from _joined(_resampled(pieces, start_s, rate_hz), max(round((end_s - start_s) * rate_hz), 0), rate_hz)
    except av.FFmpegError:
        raise MediaError("unreadable_media", "the sound is in a form that cannot be resampled") from None


def _joined(
    placed: Iterator[tuple[int, NDArray[np.float32]]], length: int, rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    """The pieces from place 0 to `length`, with zeros in the gaps, a second of them at most at a time."""
    given = 0
    for at, mono in placed:
        while given < min(at, length):
            gap = np.zeros(min(at, length, given + rate_hz) - given, np.float32)
            given += len(gap)
            yield gap
        piece = mono[given - at :][: length - given]
        if len(piece):
            given += len(piece)
            yield piece
        if given >= length:
            return


def _pieces(media: Media, limits: MediaLimits, start_s: float, end_s: float, tick: Tick) -> Iterator[_Piece]:
    """What the track holds between two times, decoded from its beginning."""
    assert media.audio is not None
    time_s = 0.0
    form, interleave = None, AudioResampler(format="flt")
    for frame in decoded(media, media.audio, tick):
        refuse_over("channels", frame.layout.nb_channels, limits.max_channels)
        refuse_over("samples a second", frame.sample_rate, limits.max_sample_rate_hz)
        if frame.sample_rate < 1:
            continue
        if frame.pts is not None and frame.time_base is not None:
            time_s = float(frame.pts * frame.time_base) - media.origin_s
        if time_s > end_s:
            return
        if time_s + frame.samples / frame.sample_rate < start_s:
            time_s += frame.samples / frame.sample_rate
            continue
        if form != (form := (frame.format.name, frame.layout, frame.sample_rate)):
            interleave = AudioResampler(format="flt")
        for interleaved in interleave.resample(frame):
            piece = _Piece(time_s, _mono(interleaved), frame.sample_rate)
            time_s = piece.end_s
            wanted = piece.between(start_s, end_s)
            if len(wanted.mono):
                yield wanted


def _mono(interleaved: AudioFrame) -> NDArray[np.float32]:
    """The mean of the channels of a frame in interleaved floats: (samples,) in −1..1.

    Only interleaved frames may be read: of eight planes and more, PyAV's `planes` reads on into foreign memory.
    """
    samples = interleaved.to_ndarray().reshape(-1, interleaved.layout.nb_channels)
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    mean: NDArray[np.float32] = finite.clip(-1.0, 1.0).mean(axis=1, dtype=np.float32)
    return mean


def _resampled(pieces: Iterator[_Piece], start_s: float, rate_hz: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The pieces at `rate_hz`, each with the place of its first sample counted from `start_s`."""
    run: _Run | None = None
    for piece in pieces:
        if run is None or not run.continued_by(piece):
            if run is not None:
                yield from run.take(None)
            run = _Run(piece, start_s, rate_hz)
        yield from run.take(piece.mono)
    if run is not None:
        yield from run.take(None)


class _Run:
    """A stretch without gaps and of one rate: it has a resampler of its own, and counts samples in and out."""

    def __init__(self, first: _Piece, start_s: float, rate_hz: int) -> None:
        self._from_rate_hz = first.rate_hz
        self._expected_s = first.start_s
        self._place = round((first.start_s - start_s) * rate_hz)
        self._resampler = AudioResampler(format="fltp", layout="mono", rate=rate_hz)

    def continued_by(self, piece: _Piece) -> bool:
        return piece.rate_hz == self._from_rate_hz and abs(piece.start_s - self._expected_s) <= GAP_S

    def take(self, mono: NDArray[np.float32] | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """What comes out for `mono`; None empties the resampler."""
        frame = None
        if mono is not None:
            frame = AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
            frame.sample_rate = self._from_rate_hz
            self._expected_s += len(mono) / self._from_rate_hz
        for out in self._resampler.resample(frame):
            samples = out.to_ndarray()[0].astype(np.float32, copy=False)
            yield self._place, samples
            self._place += len(samples)

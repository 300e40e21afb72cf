"""A recording becomes windows of tensors: the one way that training and service share.

Picture and sound are each read in one sequential pass, in turns, and no further than the next window needs: what is
held at a time does not grow with the recording. A window keeps references to crops, not copies, so overlapping windows
cost nothing until their tensor is asked for.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.assemble import MIN_SOUND_S, Assembler, FaceInWindow, Reason, WindowInput, sample_times
from models.inputs.face.face import FaceObservation, FaceTracker, Follow
from models.inputs.face.nets import FaceNets
from models.inputs.media import media as in_process
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaInfo, MediaLimits
from models.inputs.recording import WHOLE, Recording, Span, SpanError, Tick, facts, frames, half, plan
from models.spec import InputSpec

__all__ = [
    "MIN_SOUND_S",
    "WHOLE",
    "FaceInWindow",
    "Preparation",
    "Prepared",
    "Reason",
    "Recording",
    "Span",
    "SpanError",
    "WindowInput",
    "prepare",
]

HOLD_S: Final = 1.0
HOLD_INTERVALS: Final = 2.5
"""A frame of a video stands for a second, or for so many of the usual intervals between frames where these are longer.
Further on there is a hole: damaged frames, or a picture that begins after the sound or ends before it."""


@dataclass
class StageSeconds:
    """Where the time went."""

    decode: float = 0.0
    face: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """A recording, ready for the network."""

    media: MediaInfo
    windows: tuple[WindowInput, ...]
    silent_track: bool
    seconds: StageSeconds = field(default_factory=StageSeconds)


class _Seen(NamedTuple):
    """The faces in the frame that was shown from a time on."""

    time_s: float
    faces: tuple[FaceObservation, ...]


def prepare(
    recording: Recording,
    spec: InputSpec,
    nets: FaceNets | None,
    *,
    limits: MediaLimits,
    span: Span = WHOLE,
    max_windows: int | None = None,
    decoder: Decoder = in_process,
    tick: Tick = lambda: None,
) -> Prepared:
    """All windows of `recording` at once, of its largest face; the parameters and errors are those of `Preparation`."""
    preparation = Preparation(
        recording, spec, nets, limits=limits, span=span, max_windows=max_windows, decoder=decoder, tick=tick
    )
    windows = tuple(preparation.windows())
    return Prepared(preparation.media, windows, preparation.silent_track, preparation.seconds)


class Preparation:
    """A recording that is open: its facts, and the windows that `spec` describes, one after another.

    `nets` finds faces; None leaves the picture aside. `follow` says which: the largest, or at most `max_faces` of all.
    `decoder` reads the bytes. `tick` is called for every packet and window and may raise, which is how a deadline or a
    client that went away ends the work; `clock` tells the seconds of the stages. Raises MediaError for what cannot be
    read or is over a limit (more than `max_windows` is one), SpanError where `span` starts after the end.
    """

    def __init__(
        self,
        recording: Recording,
        spec: InputSpec,
        nets: FaceNets | None,
        *,
        limits: MediaLimits,
        span: Span = WHOLE,
        max_windows: int | None = None,
        follow: Follow = "largest",
        max_faces: int = 8,
        decoder: Decoder = in_process,
        tick: Tick = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.recording, self.spec, self.nets, self.limits = recording, spec, nets, limits
        self.follow, self.max_faces = follow, max_faces
        self.decoder, self.tick, self.clock = decoder, tick, clock
        self.seconds = StageSeconds()
        with self._timed("decode"):
            self.media = facts(recording, limits, decoder, tick)
        self.planned = plan(self.media, spec, span, max_windows)
        self.start_s, self.end_s = self.planned[0].start_s, max(window.end_s for window in self.planned)
        self.reached_s = self.start_s
        """To where the windows reach that were made so far."""
        self.assembler = Assembler(
            spec,
            self.planned,
            sees=self.media.has_video,
            hears=self.media.has_audio,
            follow=follow,
            hold_s=hold_s(self.media),
        )

    @property
    def silent_track(self) -> bool:
        """Whether there is sound, and the windows made so far found it silent, all of them."""
        return self.assembler.silent_track

    def windows(self) -> Iterator[WindowInput]:
        """The windows in order, each as soon as it is there; several rows for one where all faces are followed.

        To be read once. Raises MediaError where the recording turns out to be unreadable, or over a limit.
        """
        assembler, seen, heard = self.assembler, self._seen(), self._heard()
        while not assembler.done:
            if assembler.lacks_picture:
                shown = next(seen, None)
                if shown is None:
                    assembler.close_eyes()
                else:
                    assembler.look(*shown)
            elif assembler.lacks_sound:
                with self._timed("decode"):
                    samples = next(heard, None)
                if samples is None:
                    assembler.close_ears()
                else:
                    assembler.listen(samples)
            else:
                self.tick()
                with self._timed("decode"):
                    rows = assembler.take()
                self.reached_s = rows[0].window.end_s
                yield from rows

    def _seen(self) -> Iterator[_Seen]:
        """For each time at which a window samples the picture, the frame shown then and the faces in it."""
        if self.spec.face is None or self.nets is None:
            return
        spec = self.spec.face
        times_s = sorted({t for window in self.planned for t in sample_times(window, spec, self.spec.window_s)})
        tracker = FaceTracker(self.nets, size_px=spec.size_px, follow=self.follow, max_faces=self.max_faces)
        shown = frames(self.recording, times_s, self.limits, self.decoder, self.tick)
        seen: _Seen | None = None
        while True:
            with self._timed("decode"):
                frame = next(shown, None)
            if frame is None:
                return
            if seen is None or frame.time_s != seen.time_s:
                with self._timed("face"):
                    rgb = half(frame.rgb, self.recording.side)
                    seen = _Seen(frame.time_s, tracker.step(frame.time_s, rgb, frame.stretch))
            yield seen

    def _heard(self) -> Iterator[NDArray[np.float32]]:
        """Mono samples from the first window's start to the last one's end."""
        source = self.recording.audio if self.recording.audio is not None else self.recording.video
        if self.spec.voice is None or source is None:
            return
        yield from self.decoder.sound_pieces(
            source, self.spec.voice.sample_rate_hz, self.limits, start_s=self.start_s, end_s=self.end_s, tick=self.tick
        )

    @contextmanager
    def _timed(self, stage: Literal["decode", "face"]) -> Iterator[None]:
        begin_s = self.clock()
        try:
            yield
        finally:
            setattr(self.seconds, stage, getattr(self.seconds, stage) + self.clock() - begin_s)


def hold_s(media: MediaInfo) -> float:
    """How far from its own time a frame still counts as what is shown."""
    return max(HOLD_S, HOLD_INTERVALS / media.fps) if media.fps else HOLD_S

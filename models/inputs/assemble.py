"""Samples of the picture and stretches of sound, fed in order, become windows: each as soon as all of it is there.

Nothing is decoded here, and nothing is kept that no later window needs. A recording's samples come from one pass over
it (`models.inputs.prepare`), a live stream's from whoever sends them.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.face.face import FaceObservation, Follow
from models.inputs.voice import is_silent, voice_window
from models.inputs.windows import MIN_TAIL_SHARE, Window, frame_times
from models.spec import FACE, VOICE, FaceSpec, InputSpec

Reason = Literal["no_face", "too_short", "silent", "undecodable", "not_computable"]
Crop = NDArray[np.uint8]

MIN_SOUND_S: Final = 0.25
ROUNDING_S: Final = 1e-6
"""Sample times are rounded to it, so that overlapping windows ask for the same moments, not for neighbours."""


class FaceInWindow(NamedTuple):
    """One track's face in one window. `shown` is the observation nearest the window's middle."""

    face_id: int
    coverage: float
    shown: FaceObservation
    observations: tuple[FaceObservation, ...]
    static: bool


@dataclass(frozen=True)
class WindowInput:
    """What one window holds of one face. `reason` says why nothing could be observed, and is None otherwise."""

    window: Window
    face: FaceInWindow | None
    reason: Reason | None
    crops: tuple[Crop, ...] = ()
    voice: NDArray[np.float32] | None = None
    tracks: tuple[FaceInWindow, ...] = ()
    """Every track that is followed and was seen in the window, by id; the same for all rows of a window."""

    @property
    def observed(self) -> frozenset[str]:
        return frozenset(name for name, there in ((FACE, self.crops), (VOICE, self.voice is not None)) if there)

    def tensor(self, modality: str) -> NDArray[np.generic]:
        """face: uint8 (frames, size, size, 3); voice: as its form says. KeyError if it was not observed."""
        if modality == FACE and self.crops:
            return np.stack(self.crops)
        if modality == VOICE and self.voice is not None:
            return self.voice
        raise KeyError(modality)


class _Sample(NamedTuple):
    """What is seen at one of the sampled times: the picture's own time, and the faces in it; None where it is lost."""

    time_s: float
    faces: tuple[FaceObservation, ...] | None


class _Open(NamedTuple):
    """A window that is waited for, and when it samples the picture."""

    window: Window
    times_s: tuple[float, ...]


class Assembler:
    """Turns what is seen and heard into windows. Not to be shared by threads.

    `windows`: ascending by start, at least one; an endless iterator will do for a stream whose end is not known.
    `sees` and `hears`: whether there is a picture, and sound, to wait for; what `spec` does not use is not waited for.
    `follow`: one row a window, of the track seen most often in it, or one for `all` tracks that cover enough of it.
    `hold_s`: a picture whose own time lies further than this from a sampled time says nothing about that time.

    Pictures. `due_s` is the next time at which the picture is wanted, None when no more is. Answer it with
    `look(time_s, faces)`: the picture shown at `due_s` began at `time_s` and holds these faces. Pictures that are shown
    at no due time need not be decoded. A live stream answers every `due_s` before its newest picture's time with the
    picture before that one. `close_eyes()` says that there will be no more.

    Sound. `listen(samples)`: the next mono samples, float32 (n,) at `spec.voice.sample_rate_hz`, the first of all at
    `start_s`, without gaps (zeros where something was lost). `close_ears()` says that there will be no more.

    End. `cut(end_s)` shortens the windows that are still to come as `plan_windows` does; further times may be due then.

    Windows. `take()` gives the rows of the first window, and forgets it. It may be called once neither `lacks_picture`
    nor `lacks_sound`, and not when `done`:

        while not assembler.done:
            if assembler.lacks_picture: assembler.look(…)
            elif assembler.lacks_sound: assembler.listen(…)
            else: rows = assembler.take()
    """

    def __init__(
        self,
        spec: InputSpec,
        windows: Iterable[Window],
        *,
        sees: bool,
        hears: bool,
        follow: Follow = "largest",
        hold_s: float = math.inf,
    ) -> None:
        self._spec = spec
        self._coming = iter(windows)
        self._next = next(self._coming, None)
        if self._next is None:
            raise ValueError("there must be at least one window")
        self.start_s = self._next.start_s
        self._picture = spec.face if sees else None
        self._sound = spec.voice if hears else None
        self._follow, self._hold_s = follow, hold_s
        self._open: deque[_Open] = deque()
        self._due: list[float] = []
        """A heap."""
        self._samples: dict[float, _Sample] = {}
        """By the time that was due, ascending."""
        self._seeing, self._hearing = self._picture is not None, self._sound is not None
        self._heard: deque[NDArray[np.float32]] = deque()
        self._first, self._end = 0, 0
        """Places of the sound that is kept, in samples from `start_s`."""
        self._taken = False
        self._silent_windows = self._voiced_windows = 0
        self._open_windows()

    @property
    def done(self) -> bool:
        """Whether every window was taken."""
        return not self._open

    @property
    def due_s(self) -> float | None:
        """The next time at which the picture is wanted; None where it is not."""
        return self._due[0] if self._due else None

    @property
    def lacks_picture(self) -> bool:
        """Whether the first window waits for `look`."""
        return self._seeing and not self.done and any(t not in self._samples for t in self._open[0].times_s)

    @property
    def lacks_sound(self) -> bool:
        """Whether the first window waits for `listen`."""
        return self._hearing and not self.done and self._end < self._place(self._open[0].window.end_s)

    @property
    def silent_track(self) -> bool:
        """Whether the windows so far heard silence, and nothing else."""
        return self._silent_windows > 0 and self._voiced_windows == 0

    def look(self, time_s: float, faces: tuple[FaceObservation, ...]) -> None:
        """Answer `due_s`; ValueError where nothing is due."""
        if not self._due:
            raise ValueError("no picture is due")
        due_s = self._due[0]
        while self._due and self._due[0] == due_s:
            heapq.heappop(self._due)
        held = abs(due_s - time_s) <= self._hold_s
        self._samples[due_s] = _Sample(time_s, faces) if held else _Sample(due_s, None)
        self._open_windows()

    def close_eyes(self) -> None:
        """There are no more pictures."""
        self._seeing = False
        self._due.clear()

    def listen(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples."""
        self._heard.append(samples)
        self._end += len(samples)

    def close_ears(self) -> None:
        """There is no more sound."""
        self._hearing = False

    def cut(self, end_s: float) -> None:
        """The recording ends at `end_s`, as is known now."""
        windows = [one.window for one in self._open]
        while self._next is not None and self._begins_before(self._next, end_s):
            windows.append(self._next)
            self._next = next(self._coming, None)
        self._next = None
        kept = [w for w in windows if self._begins_before(w, end_s)] or ([] if self._taken else windows[:1])
        self._open.clear()
        self._due.clear()
        for window in kept:
            self._wait_for(Window(window.start_s, max(window.start_s, min(window.end_s, end_s))))

    def take(self) -> tuple[WindowInput, ...]:
        """The first window: one row, or with `follow="all"` one for each track that covers enough of it, by id."""
        window, times_s = self._open.popleft()
        self._taken = True
        rows = self._rows(window, times_s)
        self._open_windows()
        self._forget_before(self._open[0].window.start_s if self._open else math.inf)
        return rows

    def _begins_before(self, window: Window, end_s: float) -> bool:
        return window.start_s + MIN_TAIL_SHARE * self._spec.window_s <= end_s

    def _open_windows(self) -> None:
        """Wait for every window that may want the picture at the next time that is due; always for one."""
        while self._next is not None:
            later = bool(self._due) and self._due[0] < self._next.start_s - ROUNDING_S
            if self._open and (later or not self._seeing):
                return
            self._wait_for(self._next)
            self._next = next(self._coming, None)

    def _wait_for(self, window: Window) -> None:
        times_s = sample_times(window, self._picture, self._spec.window_s) if self._picture is not None else ()
        self._open.append(_Open(window, times_s))
        if self._seeing:
            for t in times_s:
                if t not in self._samples:
                    heapq.heappush(self._due, t)

    def _place(self, time_s: float) -> int:
        rate_hz = self._sound.sample_rate_hz if self._sound is not None else 0
        return round((time_s - self.start_s) * rate_hz)

    def _forget_before(self, start_s: float) -> None:
        while self._samples and (first_s := next(iter(self._samples))) < start_s - ROUNDING_S:
            del self._samples[first_s]
        while self._heard and (math.isinf(start_s) or self._first + len(self._heard[0]) <= self._place(start_s)):
            self._first += len(self._heard.popleft())

    def _rows(self, window: Window, times_s: Sequence[float]) -> tuple[WindowInput, ...]:
        voice, why_no_voice = self._voice(window)
        if self._picture is None:
            reason = None if voice is not None else why_no_voice or "undecodable"
            return (WindowInput(window, None, reason, (), voice),)
        sampled = [self._samples.get(t, _Sample(t, None)) for t in times_s]
        tracks = tuple(_tracks(sampled, window))
        if self._follow == "largest" and tracks:
            tracks = (max(tracks, key=lambda track: len(track.observations)),)
        covering = [track for track in tracks if track.coverage >= self._picture.min_coverage]
        if covering:
            heard = voice if len(tracks) == 1 else None  # of several people, nobody knows whose voice it is
            return tuple(WindowInput(window, t, None, _crops(sampled, t.face_id), heard, tracks) for t in covering)
        lost = all(sample.faces is None for sample in sampled)
        reason = None if voice is not None else "undecodable" if lost else "no_face"
        seen_most = max(tracks, key=lambda track: len(track.observations), default=None)
        return (WindowInput(window, seen_most, reason, (), voice, tracks),)

    def _voice(self, window: Window) -> tuple[NDArray[np.float32] | None, Reason | None]:
        """What the network hears, or why it is nothing; neither where there is no sound at all."""
        if self._sound is None:
            return None, None
        start, end = self._place(window.start_s) - self._first, self._place(window.end_s) - self._first
        samples = np.concatenate([np.zeros(0, np.float32), *self._heard])[max(start, 0) : max(end, 0)]
        if len(samples) < MIN_SOUND_S * self._sound.sample_rate_hz:
            return None, "too_short"
        if is_silent(samples, self._sound.sample_rate_hz):
            self._silent_windows += 1
            return None, "silent"
        self._voiced_windows += 1
        return voice_window(samples, self._sound, self._spec.window_s), None


def sample_times(window: Window, face: FaceSpec, window_s: float) -> tuple[float, ...]:
    """When a window of `window_s`, cut or not, samples the picture: ascending seconds, some perhaps twice."""
    return tuple(round(float(t), 6) for t in frame_times(window, face.frames, window_s))


def _tracks(sampled: Sequence[_Sample], window: Window) -> Iterator[FaceInWindow]:
    """The tracks seen in the window, by id."""
    pictures = dict(sampled)  # a picture that is shown at several of the sampled times counts once
    seen: dict[int, list[FaceObservation]] = {}
    for faces in pictures.values():
        for face in faces or ():
            seen.setdefault(face.face_id, []).append(face)
    middle_s = 0.5 * (window.start_s + window.end_s)
    for face_id, own in sorted(seen.items()):
        shown = min(own, key=lambda face: abs(face.time_s - middle_s))
        yield FaceInWindow(face_id, len(own) / len(pictures), shown, tuple(own), static=len(own) == 1)


def _crops(sampled: Sequence[_Sample], face_id: int) -> tuple[Crop, ...]:
    """One crop a sample; where the track was not seen, the nearest one in time."""
    own = [{face.face_id: face.crop for face in sample.faces or ()}.get(face_id) for sample in sampled]
    places = [i for i, crop in enumerate(own) if crop is not None]
    filled = (own[min(places, key=lambda p: abs(p - i))] for i in range(len(own)))
    return tuple(crop for crop in filled if crop is not None)

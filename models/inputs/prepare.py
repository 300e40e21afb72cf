"""A recording becomes windows of tensors: the one way that training and service share.

Decoding, face tracking and sound are each one sequential pass; a window keeps references to crops, not copies, so
overlapping windows cost nothing until their tensor is asked for.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs import media as in_process
from models.inputs.decoder import Decoder
from models.inputs.face import FaceObservation, FaceTracker
from models.inputs.face_nets import FaceNets
from models.inputs.media import Frame, MediaError, MediaInfo, MediaLimits
from models.inputs.voice import is_silent, log_mel
from models.inputs.windows import Window, frame_times, plan_windows
from models.spec import FACE, VOICE, FaceSpec, InputSpec, Side, VoiceSpec

Source = bytes | BinaryIO
Tick = Callable[[], None]
Reason = Literal["no_face", "too_short", "silent", "undecodable", "not_computable"]

MIN_SOUND_S = 0.25


class SpanError(ValueError):
    """The part that was asked for lies outside the recording."""


@dataclass(frozen=True)
class Recording:
    """A video file, or pictures in order with their rate; and a sound file that replaces the video's own."""

    video: Source | None = None
    pictures: Sequence[bytes] = ()
    pictures_fps: float = 25.0
    audio: Source | None = None
    side: Side | None = None
    """Look for the face in this half of the picture only; corpora know which of two people a label means."""


class Span(NamedTuple):
    """The part to read, and the distance of its windows; None takes the whole recording and the bundle's hop."""

    start_s: float = 0.0
    end_s: float | None = None
    hop_s: float | None = None


WHOLE = Span()


class FaceInWindow(NamedTuple):
    """One track's face in one window. `shown` is the observation nearest the window's middle."""

    face_id: int
    coverage: float
    shown: FaceObservation
    observations: tuple[FaceObservation, ...]
    static: bool


@dataclass(frozen=True)
class WindowInput:
    """What one window holds. `reason` says why nothing could be observed, and is None otherwise."""

    window: Window
    face: FaceInWindow | None
    reason: Reason | None
    crops: tuple[NDArray[np.uint8], ...] = ()
    voice: NDArray[np.float32] | None = None

    @property
    def observed(self) -> frozenset[str]:
        return frozenset(name for name, there in ((FACE, self.crops), (VOICE, self.voice is not None)) if there)

    def tensor(self, modality: str) -> NDArray[np.generic]:
        """face: uint8 (frames, size, size, 3); voice: float32 (mels, steps). KeyError if it was not observed."""
        if modality == FACE and self.crops:
            return np.stack(self.crops)
        if modality == VOICE and self.voice is not None:
            return self.voice
        raise KeyError(modality)


@dataclass
class StageSeconds:
    """Where the time went."""

    decode: float = 0.0
    face: float = 0.0


class _Sample(NamedTuple):
    """A frame at one of the sampled times: its own time, and the face in it."""

    time_s: float
    seen: FaceObservation | None


@dataclass(frozen=True)
class Prepared:
    """A recording, ready for the network."""

    media: MediaInfo
    windows: tuple[WindowInput, ...]
    silent_track: bool
    seconds: StageSeconds = field(default_factory=StageSeconds)


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
    """Decode `recording` once and cut it into the windows that `spec` describes.

    `nets` finds faces; None leaves the picture aside. `decoder` reads the bytes. `tick` is called for every packet and
    window and may raise, which is how a deadline or a client that went away ends the work. Raises MediaError for what
    cannot be read or is over a limit (more than `max_windows` is one), SpanError where `span` starts after the end.
    """
    seconds = StageSeconds()
    begin = time.perf_counter()
    media = _media(recording, limits, decoder, tick)
    seconds.decode += time.perf_counter() - begin
    windows = _windows(media, spec, span, max_windows)
    faces: dict[float, _Sample] = {}
    if spec.face is not None and nets is not None and media.has_video:
        times = sorted({t for w in windows for t in _times(w, spec.face, spec)})
        faces = _faces(recording, times, spec.face, nets, limits, decoder, tick, seconds)
    sound = None
    if spec.voice is not None and media.has_audio:
        begin = time.perf_counter()
        sound = _sound(recording, spec.voice, windows, limits, decoder, tick)
        seconds.decode += time.perf_counter() - begin
    begin = time.perf_counter()
    inputs = []
    for window in windows:
        tick()
        inputs.append(_window(window, spec, faces, sound, windows[0].start_s, media))
    seconds.decode += time.perf_counter() - begin
    silent = sound is not None and len(sound) > 0 and is_silent(sound)
    return Prepared(media, tuple(inputs), silent, seconds)


def _media(recording: Recording, limits: MediaLimits, decoder: Decoder, tick: Tick) -> MediaInfo:
    """Facts of picture and sound together; the longer of the two is the recording's duration."""
    if recording.pictures:
        first = decoder.decode_picture(recording.pictures[0], limits)
        if len(recording.pictures) > limits.max_frames:
            raise MediaError("too_large", f"{len(recording.pictures)} pictures; at most {limits.max_frames} are taken")
        duration_s = len(recording.pictures) / recording.pictures_fps
        if duration_s > limits.max_duration_s:
            raise MediaError(
                "too_long",
                f"{len(recording.pictures)} pictures at {recording.pictures_fps:g} a second last {duration_s:g} s; at "
                f"most {limits.max_duration_s:g} s are accepted",
            )
        picture = MediaInfo(duration_s, recording.pictures_fps, first.shape[1], first.shape[0], True, False)
    elif recording.video is not None:
        picture = decoder.probe(recording.video, limits, tick=tick)
    else:
        picture = MediaInfo(0.0, None, None, None, False, False)
    if recording.audio is None:
        return picture
    sound = decoder.probe(recording.audio, limits, tick=tick)
    if not sound.has_audio:
        raise MediaError("unreadable_media", "the file in `audio` holds no sound track; send one that does")
    return MediaInfo(
        max(picture.duration_s, sound.duration_s), picture.fps, picture.width, picture.height, picture.has_video, True
    )


def _windows(media: MediaInfo, spec: InputSpec, span: Span, max_windows: int | None) -> list[Window]:
    if span.start_s >= media.duration_s:
        raise SpanError(f"start_s is {span.start_s:g}, but the recording ends at {media.duration_s:.3f} s")
    end_s = media.duration_s if span.end_s is None else min(span.end_s, media.duration_s)
    hop_s = span.hop_s or spec.hop_s
    if max_windows is not None and (end_s - span.start_s) / hop_s > max_windows:
        raise MediaError(
            "too_large",
            f"{end_s - span.start_s:g} s with a window every {hop_s:g} s are more than {max_windows} windows; take a "
            "larger hop_s, or a shorter part",
        )
    return plan_windows(span.start_s, end_s, spec.window_s, hop_s)


def _times(window: Window, face: FaceSpec, spec: InputSpec) -> list[float]:
    # rounded to a microsecond, so that overlapping windows ask for the same moments, not for neighbours
    return [round(float(t), 6) for t in frame_times(window, face.frames, spec.window_s)]


def _frames(
    recording: Recording, times: Sequence[float], limits: MediaLimits, decoder: Decoder, tick: Tick
) -> Iterator[Frame]:
    if recording.video is not None:
        yield from decoder.frames_at(recording.video, times, limits, tick=tick)
        return
    shown = -1
    rgb = np.zeros((0, 0, 3), np.uint8)
    for t in times:
        index = min(int(t * recording.pictures_fps + 1e-6), len(recording.pictures) - 1)
        if index != shown:
            tick()
            rgb, shown = decoder.decode_picture(recording.pictures[index], limits), index
        yield Frame(index / recording.pictures_fps, rgb)


def _faces(
    recording: Recording,
    times: Sequence[float],
    spec: FaceSpec,
    nets: FaceNets,
    limits: MediaLimits,
    decoder: Decoder,
    tick: Tick,
    seconds: StageSeconds,
) -> dict[float, "_Sample"]:
    """Track the largest face through the sampled frames: time asked for → what the frame shown then holds."""
    tracker = FaceTracker(nets, size_px=spec.size_px)
    found: dict[float, _Sample] = {}
    sample = None
    frames = _frames(recording, times, limits, decoder, tick)
    for t in times:
        begin = time.perf_counter()
        frame = next(frames, None)
        seconds.decode += time.perf_counter() - begin
        if frame is None:
            break
        if sample is None or frame.time_s != sample.time_s:
            begin = time.perf_counter()
            sample = _Sample(frame.time_s, tracker.step(frame.time_s, _half(frame.rgb, recording.side)))
            seconds.face += time.perf_counter() - begin
        found[t] = sample
    return found


def _half(rgb: NDArray[np.uint8], side: Side | None) -> NDArray[np.uint8]:
    middle = (rgb.shape[1] + 1) // 2
    return {None: rgb, "left": rgb[:, :middle], "right": rgb[:, -middle:]}[side]


def _sound(
    recording: Recording,
    spec: VoiceSpec,
    windows: Sequence[Window],
    limits: MediaLimits,
    decoder: Decoder,
    tick: Tick,
) -> NDArray[np.float32] | None:
    """Mono samples from the first window's start to the last one's end."""
    source = recording.audio if recording.audio is not None else recording.video
    assert source is not None  # media.has_audio said so
    return decoder.read_sound(
        source, spec.sample_rate_hz, limits, start_s=windows[0].start_s, end_s=max(w.end_s for w in windows), tick=tick
    )


def _window(
    window: Window,
    spec: InputSpec,
    faces: dict[float, _Sample],
    sound: NDArray[np.float32] | None,
    origin_s: float,
    media: MediaInfo,
) -> WindowInput:
    face: FaceInWindow | None = None
    crops: tuple[NDArray[np.uint8], ...] = ()
    decoded = True
    if spec.face is not None and media.has_video:
        times = _times(window, spec.face, spec)
        sampled = [faces.get(t, _Sample(t, None)) for t in times]
        decoded = any(t in faces for t in times)
        face, crops = _face_in_window(sampled, window, spec.face)
    voice, why_no_voice = _voice_in_window(window, spec, sound, origin_s)
    reason: Reason | None = None
    if not crops and voice is None:
        if spec.face is not None and media.has_video:
            reason = "no_face" if decoded else "undecodable"
        else:
            reason = why_no_voice or "undecodable"
    return WindowInput(window, face, reason, crops, voice)


def _face_in_window(
    sampled: Sequence[_Sample], window: Window, spec: FaceSpec
) -> tuple[FaceInWindow | None, tuple[NDArray[np.uint8], ...]]:
    """The track seen most often in the window, its gaps filled with the nearest crop in time."""
    frames = dict(sampled)  # a frame that is shown at several of the sampled times counts once
    ids = Counter(seen.face_id for seen in frames.values() if seen is not None)
    if not ids:
        return None, ()
    face_id, _ = ids.most_common(1)[0]
    own = [sample.seen if sample.seen is not None and sample.seen.face_id == face_id else None for sample in sampled]
    places = [i for i, seen in enumerate(own) if seen is not None]
    unique = tuple({seen.time_s: seen for seen in own if seen is not None}.values())
    coverage = len(unique) / len(frames)
    middle_s = 0.5 * (window.start_s + window.end_s)
    face = FaceInWindow(
        face_id, coverage, min(unique, key=lambda o: abs(o.time_s - middle_s)), unique, static=len(unique) == 1
    )
    if coverage < spec.min_coverage:
        return face, ()
    filled = [own[min(places, key=lambda p: abs(p - i))] for i in range(len(own))]
    return face, tuple(seen.crop for seen in filled if seen is not None)


def _voice_in_window(
    window: Window, spec: InputSpec, sound: NDArray[np.float32] | None, origin_s: float
) -> tuple[NDArray[np.float32] | None, Reason | None]:
    if spec.voice is None or sound is None:
        return None, None
    rate = spec.voice.sample_rate_hz
    samples = sound[round((window.start_s - origin_s) * rate) : round((window.end_s - origin_s) * rate)]
    if len(samples) < MIN_SOUND_S * rate:
        return None, "too_short"
    if is_silent(samples):
        return None, "silent"
    return log_mel(samples, spec.voice, spec.voice.steps(spec.window_s)), None

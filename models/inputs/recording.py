"""A recording as it was handed in: files or pictures, the part that is asked for, and its frames and facts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.decoder import Decoder
from models.inputs.media import Frame, MediaError, MediaInfo, MediaLimits
from models.inputs.windows import Window, plan_windows
from models.spec import InputSpec, Side

Source = bytes | BinaryIO
Tick = Callable[[], None]


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


def facts(recording: Recording, limits: MediaLimits, decoder: Decoder, tick: Tick) -> MediaInfo:
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


def plan(media: MediaInfo, spec: InputSpec, span: Span, max_windows: int | None) -> list[Window]:
    """Where the windows of the part lie. Raises SpanError, and MediaError where there are more than `max_windows`."""
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


def frames(
    recording: Recording, times: Sequence[float], limits: MediaLimits, decoder: Decoder, tick: Tick
) -> Iterator[Frame]:
    """The frame, or the picture, that is shown at each of the times."""
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


def half(rgb: NDArray[np.uint8], side: Side | None) -> NDArray[np.uint8]:
    """That side of a picture, with the middle; None takes all of it."""
    middle = (rgb.shape[1] + 1) // 2
    return {None: rgb, "left": rgb[:, :middle], "right": rgb[:, -middle:]}[side]

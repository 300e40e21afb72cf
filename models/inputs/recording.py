"""A recording as it was handed in: files or pictures, the part that is asked for, and its frames and facts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.container import DecoderEnded
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import Frame, MediaError, MediaInfo, MediaLimits
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
    pictures: Sequence[Source] = ()
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
        if len(recording.pictures) > limits.max_frames:
            raise MediaError(
                "too_large",
                f"{len(recording.pictures)} pictures; at most {limits.max_frames} are accepted: send them in parts",
            )
        duration_s = len(recording.pictures) / recording.pictures_fps
        if duration_s > limits.max_duration_s:
            raise MediaError(
                "too_long",
                f"{len(recording.pictures)} pictures at {recording.pictures_fps:g} a second last {duration_s:g} s; at "
                f"most {limits.max_duration_s:g} s are accepted: send them in parts, or name their true rate in `fps`",
            )
        _, first = first_whole(recording, 0, limits, decoder, tick)
        height, width, _ = first.shape
        picture = MediaInfo(duration_s, recording.pictures_fps, width, height, True, False)
    elif recording.video is not None:
        picture = decoder.probe(recording.video, limits, tick=tick)
    else:
        picture = MediaInfo(0.0, None, None, None, False, False)
    if recording.audio is None:
        return picture
    try:
        sound = decoder.probe(recording.audio, limits, tick=tick)
    except MediaError as error:
        raise type(error)(error.code, f"the file in `audio`: {error}") from None
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
    """The frame, or the picture, that is shown at each of the times.

    Damaged pictures are passed over as a video's frames are: the one before stays; in the beginning the first whole one
    is shown. Raises MediaError where there is none, or a picture is refused for another reason.
    """
    if recording.video is not None:
        yield from decoder.frames_at(recording.video, times, limits, tick=tick)
        return
    place, rgb = -1, None
    tried = -1
    for t in times:
        index = min(int(t * recording.pictures_fps + 1e-6), len(recording.pictures) - 1)
        if rgb is None:
            place, rgb = first_whole(recording, index, limits, decoder, tick)
            tried = place
        elif index > tried:
            tried, found = index, whole(recording, index, limits, decoder, tick)
            place, rgb = (place, rgb) if found is None else (index, found)
        yield Frame(place / recording.pictures_fps, rgb)


def first_whole(
    recording: Recording, index: int, limits: MediaLimits, decoder: Decoder, tick: Tick
) -> tuple[int, NDArray[np.uint8]]:
    """The first whole picture from that one on, and its place. Raises MediaError, also where there is none."""
    for place in range(index, len(recording.pictures)):
        rgb = whole(recording, place, limits, decoder, tick)
        if rgb is not None:
            return place, rgb
    raise MediaError("unreadable_media", "no picture can be decoded: all are cut short or damaged; send whole ones")


def whole(
    recording: Recording, index: int, limits: MediaLimits, decoder: Decoder, tick: Tick
) -> NDArray[np.uint8] | None:
    """That picture; None where it is damaged. Raises MediaError, with its number, where it is refused."""
    tick()
    try:
        return decoder.decode_picture(recording.pictures[index], limits)
    except DecoderEnded:
        raise
    except MediaError as error:
        if error.code == "unreadable_media":
            return None
        raise MediaError(error.code, f"picture {index + 1}: {error}") from None


def half(rgb: NDArray[np.uint8], side: Side | None) -> NDArray[np.uint8]:
    """That side of a picture, with the middle; None takes all of it."""
    middle = (rgb.shape[1] + 1) // 2
    return {None: rgb, "left": rgb[:, :middle], "right": rgb[:, -middle:]}[side]

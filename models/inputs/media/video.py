"""The frames of a recording at given times, in one sequential pass."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.inputs.media.aspect import pixel_aspect
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
from models.inputs.media.orientation import displayed
from models.inputs.media.picture import decode_picture, read_picture

TOLERANCE_S = 0.0005
"""A frame counts as shown from half a millisecond before its time: containers round times to milliseconds."""

SEEK_FROM_S = 4.0
"""Before this time, decoding from the start is as quick as seeking."""
SEEK_LEADS_S = (0.5, 12.0)
"""How far before the wanted time to land; the second where the first found no picture to start from in time."""


class Frame(NamedTuple):
    """One frame as displayed. `time_s` is its own presentation time; `rgb` is uint8 (H, W, 3), in square pixels."""

    time_s: float
    rgb: NDArray[np.uint8]
    stretch: tuple[float, float] = (1.0, 1.0)
    """Its width and height over those of the picture before anamorphic pixels were made square."""


class _Timed(NamedTuple):
    time_s: float
    frame: VideoFrame
    aspect: float


def frames_at(
    source: Source, times_s: Sequence[float], limits: MediaLimits, *, tick: Tick = no_tick, threads: int = 1
) -> Iterator[Frame]:
    """For each of `times_s` (ascending, seconds from the recording's start) the frame shown then.

    That is the last frame whose time has come, the first one where the time lies before it, and the last one where it
    lies after the end. Times that fall on one frame share one array. Damaged frames are passed over: the one before
    stays. `tick` is called for every packet and may raise to end the work.

    Raises MediaError where nothing can be decoded or a limit is passed, ValueError where times do not ascend.
    """
    if not all(map(math.isfinite, times_s)) or any(a > b for a, b in pairwise(times_s)):
        raise ValueError("times must be finite and ascending")
    if len(times_s) == 0:
        return
    picture = read_picture(source, limits)
    if picture is not None:
        only = Frame(0.0, decode_picture(picture, limits))
        yield from (only for _ in times_s)
        return
    reformatter = VideoReformatter()
    for timed, count in _shown(_timed_frames(source, times_s[0], limits, tick, threads), times_s):
        try:
            frame = Frame(timed.time_s, *displayed(timed.frame, reformatter, timed.aspect))
        except av.FFmpegError:
            raise MediaError("unreadable_media", "the video's colours are in a form that cannot be converted") from None
        yield from (frame for _ in range(count))


def _shown(frames: Iterator[_Timed], times_s: Sequence[float]) -> Iterator[tuple[_Timed, int]]:
    """The frames that are wanted, each with how many of the times it answers."""
    shown, answered = None, 0
    for following in frames:
        if shown is not None:
            if following.time_s <= shown.time_s:  # a clock that runs backwards
                continue
            due = bisect_left(times_s, following.time_s - TOLERANCE_S, lo=answered)
            if due > answered:
                yield shown, due - answered
                answered = due
            if answered == len(times_s):
                return
        shown = following
    if shown is None:
        raise MediaError("unreadable_media", "no picture of the recording can be decoded")
    yield shown, len(times_s) - answered


def _timed_frames(source: Source, first_s: float, limits: MediaLimits, tick: Tick, threads: int) -> Iterator[_Timed]:
    """Frames in order: from a key frame not long before `first_s` if one can be found, else from the start."""
    for lead_s in SEEK_LEADS_S if first_s > SEEK_FROM_S else ():
        with open_media(source, limits, threads=threads) as media:
            frames = _from_key_frame(media, first_s - lead_s, limits, tick)
            landing = next(frames, None)
            if landing is not None and landing.time_s <= first_s:
                yield landing
                yield from frames
                return
    with open_media(source, limits, threads=threads) as media:
        yield from _timed(media, limits, tick)


def _from_key_frame(media: Media, target_s: float, limits: MediaLimits, tick: Tick) -> Iterator[_Timed]:
    """Frames from the first key frame after a jump to `target_s`; what comes before it may be built on nothing."""
    if media.video is None or not media.video.time_base:
        return
    try:
        media.container.seek(round((target_s + media.origin_s) / media.video.time_base), stream=media.video)
    except av.FFmpegError:
        return
    frames = _timed(media, limits, tick)
    for timed in frames:
        if timed.frame.key_frame and timed.frame.pts is not None:
            yield timed
            yield from frames


def _timed(media: Media, limits: MediaLimits, tick: Tick) -> Iterator[_Timed]:
    if media.video is None:
        raise MediaError("unreadable_media", "the recording holds no video track")
    step_s = float(1 / media.video.average_rate) if media.video.average_rate else 0.0
    time_s, aspect = -step_s, pixel_aspect(media.video)
    for count, frame in enumerate(decoded(media, media.video, tick), start=1):
        refuse_over("frames or more", count, limits.max_frames)
        refuse_over("pixels a picture", frame.width * frame.height, limits.max_pixels)
        ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None or frame.time_base is None:
            time_s += step_s
        else:
            time_s = float(ticks * frame.time_base) - media.origin_s
        yield _Timed(time_s, frame, aspect)

"""What a recording holds: its length, size, rate and frame times, read without decoding it.

The one door to recordings: frames, sound and pictures are re-exported here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from models.inputs.media.container import (
    Media,
    MediaError,
    MediaErrorCode,
    MediaLimits,
    Source,
    Tick,
    decoded,
    no_tick,
    open_media,
    packets,
    refuse_over,
)
from models.inputs.media.orientation import frame_orientation
from models.inputs.media.picture import decode_picture, read_picture
from models.inputs.media.sound import read_sound, sound_pieces
from models.inputs.media.streams import MediaStream, has_decoder
from models.inputs.media.video import Frame, frames_at

__all__ = [
    "Frame",
    "MediaError",
    "MediaErrorCode",
    "MediaInfo",
    "MediaLimits",
    "decode_picture",
    "frame_times",
    "frames_at",
    "probe",
    "read_sound",
    "sound_pieces",
]

PICTURE_S = 0.04
"""How long a single picture lasts, where the file does not say: a frame at 25 a second."""


@dataclass(frozen=True)
class MediaInfo:
    """The facts of one recording. Width and height are those of the displayed picture, before aspect stretching."""

    duration_s: float
    """From the first thing shown or heard to the end of the last; the longer of picture and sound."""
    fps: float | None
    """The average over the video; None without video, and for a single picture."""
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool


def probe(source: Source, limits: MediaLimits, *, tick: Tick = no_tick) -> MediaInfo:
    """Decode the first frame and the first sound, then read every packet: what the file declares is not believed.

    `has_video` and `has_audio` mean that something could be decoded. A sound track whose codec is not let in counts
    as sound beside a video, and `read_sound` refuses it. Raises MediaError.
    """
    picture = read_picture(source, limits)
    if picture is not None:
        height, width, _ = decode_picture(picture, limits).shape
        return MediaInfo(PICTURE_S, None, width, height, has_video=True, has_audio=False)
    frame = _first_frame(source, limits, tick)
    has_audio = _has_sound(source, limits, tick)
    if frame is None and not has_audio:
        raise MediaError("unreadable_media", "the recording yields no picture and no sound: it is empty or damaged")
    with open_media(source, limits) as media:
        tracks = [stream for stream in (media.video, media.audio) if stream is not None]
        times_s, end_s = _scan(media, tracks, limits, tick)
    if end_s <= 0:
        raise MediaError("unreadable_media", "the recording has no length: its times are missing or damaged")
    if frame is None:
        return MediaInfo(end_s, None, None, None, has_video=False, has_audio=has_audio)
    swapped = frame_orientation(frame).swapped
    width, height = (frame.height, frame.width) if swapped else (frame.width, frame.height)
    shown_s = max(times_s, default=0.0) - min(times_s, default=0.0)
    fps = (len(set(times_s)) - 1) / shown_s if shown_s > 0 else None  # of frames that share a time one is shown
    return MediaInfo(end_s, fps, width, height, has_video=True, has_audio=has_audio)


def frame_times(source: Source, limits: MediaLimits, *, tick: Tick = no_tick) -> NDArray[np.float64]:
    """When each frame is shown: (n,) in seconds from the recording's start, ascending; (0,) without video.

    Nothing is decoded. Raises MediaError.
    """
    if read_picture(source, limits) is not None:
        return np.zeros(1)
    with open_media(source, limits) as media:
        if media.video is None:
            return np.zeros(0)
        times_s, _ = _scan(media, [media.video], limits, tick)
    return np.sort(np.array(times_s, np.float64))


def _first_frame(source: Source, limits: MediaLimits, tick: Tick) -> VideoFrame | None:
    with open_media(source, limits) as media:
        frame = None if media.video is None else next(decoded(media, media.video, tick), None)
    if frame is not None:
        refuse_over("pixels a picture", frame.width * frame.height, limits.max_pixels)
    return frame


def _has_sound(source: Source, limits: MediaLimits, tick: Tick) -> bool:
    with open_media(source, limits) as media:
        if media.audio is None:
            return False
        if media.video is not None and not has_decoder(media.audio):
            return True
        return next(decoded(media, media.audio, tick), None) is not None


def _scan(media: Media, streams: Sequence[MediaStream], limits: MediaLimits, tick: Tick) -> tuple[list[float], float]:
    """The video's frame times in the file's order, and the end of the last packet of any of `streams`."""
    times_s: list[float] = []
    end_s = 0.0
    unit_s = {stream.index: float(stream.time_base or 0) for stream in streams}  # fractions are slow
    for packet in packets(media, streams, tick):
        ticks = packet.pts if packet.pts is not None else packet.dts
        if packet.is_discard or ticks is None:  # decoded for the sake of others, but never shown
            continue
        time_s = ticks * unit_s[packet.stream_index] - media.origin_s
        length_s = (packet.duration or 0) * unit_s[packet.stream_index]
        if media.video is not None and packet.stream_index == media.video.index:
            times_s.append(time_s)
            refuse_over("frames or more", len(times_s), limits.max_frames)
            length_s = length_s or _frame_s(media.video)
        end_s = max(end_s, time_s + length_s)
        if end_s > limits.max_duration_s:
            raise MediaError(
                "too_long",
                f"the recording runs on to {end_s:.1f} s or longer; at most {limits.max_duration_s:g} s are accepted: "
                "send it in parts",
            )
    return times_s, end_s


def _frame_s(video: VideoStream) -> float:
    return float(1 / video.average_rate) if video.average_rate else PICTURE_S

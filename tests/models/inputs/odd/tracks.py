"""Which of several tracks is read."""

import io
from collections.abc import Callable, Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from .case import Case, Wanted
from .drawing import numbered
from .sound import voice
from .timing import evenly
from .writing import Film, Sound, encoded, write


def film(first: int, codec: str = "libx264", count: int = 5, **other) -> Film:
    return Film([numbered(first + i) for i in range(count)], codec, **other)


def sound(amplitude: float, codec: str = "pcm_s16le", **other) -> Sound:
    return Sound(voice(1.0, 16_000, amplitude), codec=codec, **other)


def make(container: str, *tracks: Film | Sound) -> Callable[[], bytes]:
    return lambda: write(container, *tracks)


def with_more() -> bytes:
    """Film and sound beside subtitles and an attached font."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(write("matroska", film(1), sound(0.5)))) as opened,
        av.open(file, "w", "matroska") as output,
    ):
        words = output.add_mux_stream("subrip")
        copies = {stream.index: output.add_stream_from_template(stream) for stream in opened.streams}
        output.add_attachment("letters.ttf", "application/x-truetype-font", bytes(1000))
        line = av.Packet(b"hello")
        line.stream, line.time_base, line.pts, line.dts, line.duration = words, Fraction(1, 1000), 0, 0, 100_000
        output.mux(line)
        copy(opened, output, copies)
    return file.getvalue()


def copy(opened: InputContainer, output: OutputContainer, copies: Mapping[int, Stream]) -> None:
    for packet in opened.demux(*opened.streams):
        if packet.size:
            packet.stream = copies[packet.stream_index]
            output.mux(packet)


def with_cover(container: str, *tracks: Film | Sound) -> bytes:
    """The same tracks with a cover picture: an attached picture is a video track to FFmpeg."""
    file = io.BytesIO()
    jpeg = encoded(numbered(63))
    with av.open(io.BytesIO(write(container, *tracks))) as opened, av.open(file, "w", format=container) as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        copies = {stream.index: output.add_stream_from_template(stream) for stream in opened.streams}
        packet = av.Packet(jpeg)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe, packet.time_base = cover, 0, 0, True, Fraction(1, 25)
        output.mux(packet)
        copy(opened, output, copies)
    return file.getvalue()


def shown(first: int, count: int = 5) -> Wanted:
    return Wanted(times_s=evenly(count), numbers=tuple(range(first, first + count)))


def level(value: float) -> Wanted:
    return Wanted(level=value, hears=("voice",))


SECOND = {"default": True}
FIRST_NOT = {"default": False}

CASES = [
    Case("several video tracks", "alike", make("mp4", film(1), film(11)), shown(1)),
    Case(
        "several video tracks",
        "the second is the default",
        make("matroska", film(1, **FIRST_NOT), film(11, **SECOND)),
        shown(11),
    ),
    Case(
        "several video tracks",
        "the default's codec is not let in",
        make("matroska", film(1, "ffv1", **SECOND), film(11, **FIRST_NOT)),
        shown(11),
    ),
    Case(
        "several video tracks",
        "all of a codec that is not let in",
        make("matroska", film(1, "ffv1"), film(11, "ffv1")),
        Wanted(refused="unsupported_media", says=("ffv1", "H.264")),
    ),
    Case("several audio tracks", "alike", make("matroska", sound(0.5), sound(0.2)), level(0.5)),
    Case(
        "several audio tracks",
        "the second is the default",
        make("matroska", sound(0.5, **FIRST_NOT), sound(0.2, **SECOND)),
        level(0.2),
    ),
    Case(
        "several audio tracks",
        "the default's codec is not let in",
        make("matroska", film(1, count=25), sound(0.5, "tta", **SECOND), sound(0.2, **FIRST_NOT)),
        level(0.2),
    ),
    Case(
        "several audio tracks",
        "the one with more data is foreign",
        make(
            "matroska",
            film(1, count=25),
            sound(0.2, "aac"),
            Sound(np.stack([voice(1.0, 48_000)] * 2, 1), 48_000, "tta", "stereo"),
        ),
        level(0.2),
    ),
    Case("cover pictures and other tracks", "a cover before the film", lambda: with_cover("mp4", film(1)), shown(1)),
    Case(
        "cover pictures and other tracks",
        "a cover of a sound file",
        lambda: with_cover("mp4", sound(0.5, "aac")),
        Wanted(level=0.5, hears=("voice",)),
    ),
    Case(
        "cover pictures and other tracks",
        "subtitles of 100 s",
        with_more,
        Wanted(times_s=evenly(5), numbers=(1, 2, 3, 4, 5), duration_s=1.0, hears=("voice",)),
    ),
]

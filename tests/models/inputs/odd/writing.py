"""Recordings of a few kilobytes, written with PyAV: whatever may be odd about a track is an argument."""

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
NOTHING: Mapping[str, str] = MappingProxyType({})


class Tags(NamedTuple):
    """What a track says of its colours, in the numbers of ITU-T H.273; 2 is "unspecified", as is range 0."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0
    """1 limited, 2 full."""


UNTAGGED = Tags()


class Film(NamedTuple):
    """One video track. Pictures are uint8 (H, W, 3), or frames that are already what the encoder takes."""

    frames: Sequence[Picture | av.VideoFrame]
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rate: int = 25
    times_ms: Sequence[int] | None = None
    options: Mapping[str, str] = NOTHING
    matrix: Sequence[int] | None = None
    """All nine numbers of the display matrix, in fixed point."""
    aspect: Fraction | None = None
    """Width over height of a pixel."""
    tags: Tags = UNTAGGED
    default: bool | None = None


class Sound(NamedTuple):
    """One sound track: (n,) or (n, channels), full scale 1."""

    samples: NDArray[np.floating]
    rate_hz: int = 16_000
    codec: str = "pcm_s16le"
    layout: str = "mono"
    start_s: float = 0.0
    default: bool | None = None


def write(container: str, *tracks: Film | Sound, muxer: Mapping[str, str] = NOTHING) -> bytes:
    """A file of these tracks, in this order."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=dict(muxer)) as output:
        streams = [film_stream(output, one) if isinstance(one, Film) else sound_stream(output, one) for one in tracks]
        for stream, one in zip(streams, tracks, strict=True):
            if one.default is not None:
                stream.disposition = Disposition.default if one.default else Disposition(0)
        for stream, one in zip(streams, tracks, strict=True):
            if isinstance(one, Film):
                encode_film(output, stream, one)
            else:
                encode_sound(output, stream, one)
    return file.getvalue()


def film_stream(output: OutputContainer, film: Film) -> VideoStream:
    quiet = {"x265-params": "log-level=none"} if film.codec == "libx265" else {}
    stream = output.add_stream(film.codec, rate=film.rate, options=quiet | dict(film.options))
    first = film.frames[0]
    if isinstance(first, av.VideoFrame):
        stream.width, stream.height = first.width, first.height
    else:
        stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = film.pix_fmt
    encoder = stream.codec_context
    encoder.time_base = unit_of(film)
    encoder.color_primaries, encoder.color_trc, encoder.colorspace, encoder.color_range = film.tags
    if film.aspect is not None:
        encoder.sample_aspect_ratio = film.aspect
    if film.matrix is not None:
        stream.set_display_matrix(film.matrix)
    return stream


def unit_of(film: Film) -> Fraction:
    return Fraction(1, film.rate) if film.times_ms is None else Fraction(1, 1000)


def encode_film(output: OutputContainer, stream: VideoStream, film: Film) -> None:
    for place, picture in enumerate(film.frames):
        frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture, format="rgb24")
        if frame.format.name != film.pix_fmt:
            frame = frame.reformat(format=film.pix_fmt)
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = film.tags
        frame.pts = place if film.times_ms is None else film.times_ms[place]
        frame.time_base = unit_of(film)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def sound_stream(output: OutputContainer, sound: Sound) -> AudioStream:
    return output.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)


def encode_sound(output: OutputContainer, stream: AudioStream, sound: Sound) -> None:
    interleaved = np.ascontiguousarray(np.asarray(sound.samples, np.float32).reshape(len(sound.samples), -1))
    resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=sound.layout, rate=sound.rate_hz)
    size = stream.codec_context.frame_size or 1024
    for at in range(0, len(interleaved), size):
        frame = av.AudioFrame.from_ndarray(
            interleaved[at : at + size].reshape(1, -1), format="flt", layout=sound.layout
        )
        frame.sample_rate = sound.rate_hz
        frame.pts, frame.time_base = at + round(sound.start_s * sound.rate_hz), Fraction(1, sound.rate_hz)
        for converted in resampler.resample(frame):
            output.mux(stream.encode(converted))
    output.mux(stream.encode())


def packed(container: str, codec: str, packets: Sequence[tuple[int, bytes]], size: tuple[int, int]) -> bytes:
    """A file of packets as they are, each with its time in ms; no encoder has a say in those."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options={"avoid_negative_ts": "disabled"}) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for place, (time_ms, data) in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
            packet.pts, packet.dts = time_ms, min(later_ms for later_ms, _ in packets[place:])
            output.mux(packet)
    return file.getvalue()


def encoded(rgb: Picture, codec: str = "mjpeg", pix_fmt: str = "yuvj420p") -> bytes:
    """One picture, without a container."""
    encoder = CodecContext.create(codec, "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt, encoder.time_base = pix_fmt, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(packet) for packet in encoder.encode(frame) + encoder.encode(None))

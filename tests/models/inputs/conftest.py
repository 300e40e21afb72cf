"""Small recordings with known content, encoded on the spot."""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from numpy.typing import NDArray

from .odd.drawing import Picture, numbered, read_number
from .odd.drawing import corners as drawn_corners
from .odd.drawing import read_corners as read_drawn_corners

BARS = 10


def _barcode(number: int, width: int = 80, height: int = 48) -> Picture:
    return numbered(number, width, height, bits=BARS)


def _write_video(
    pictures: Sequence[Picture],
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    times_ms: Sequence[int] | None = None,
    start_s: int = 0,
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    rate: int = 25,
    bt709: bool = False,
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = output.add_stream(codec, rate=rate, options=quiet | (options or {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        unit = Fraction(1, rate) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = unit
        if bt709:
            stream.codec_context.colorspace = 1
        if matrix is not None:
            a, b, c, d = (v << 16 for v in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace="ITU709" if bt709 else None)
            frame.pts = (i if times_ms is None else times_ms[i]) + round(start_s / unit)
            frame.time_base = unit
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def _write_sound(
    samples: NDArray[np.generic],
    rate_hz: int,
    container: str = "wav",
    codec: str = "pcm_s16le",
    layout: str = "mono",
    *,
    starts_s: Sequence[float] = (0.0,),
    with_pictures: Sequence[Picture] = (),
    tracks: int = 1,
    pictures_start_s: float = 0.0,
) -> bytes:
    """`samples`: (n,) or (n, channels), float in −1..1. With several starts the samples are written once at each."""
    interleaved = np.ascontiguousarray(np.asarray(samples, np.float32).reshape(len(samples), -1))
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("libx264", rate=25) if len(with_pictures) else None
        if video is not None:
            video.height, video.width = with_pictures[0].shape[:2]
            video.pix_fmt = "yuv420p"
        streams = [output.add_stream(codec, rate=rate_hz, layout=layout) for _ in range(tracks)]
        for i, picture in enumerate(with_pictures):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts, image.time_base = i + round(pictures_start_s * 25), Fraction(1, 25)
            output.mux(video.encode(image))
        if video is not None:
            output.mux(video.encode())
        for stream in streams:
            stored = stream.codec_context.format.name
            to_format = av.AudioResampler(format=stored, layout=layout, rate=rate_hz)
            size = stream.codec_context.frame_size or 1024
            for start_s in starts_s:
                for at in range(0, len(interleaved), size):
                    part = interleaved[at : at + size].reshape(1, -1)
                    sound = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
                    sound.sample_rate = rate_hz
                    sound.pts, sound.time_base = at + round(start_s * rate_hz), Fraction(1, rate_hz)
                    for converted in to_format.resample(sound):
                        output.mux(stream.encode(converted))
            output.mux(stream.encode())
    return file.getvalue()


def _write_picture(rgb: Picture, codec: str, pix_fmt: str, source_format: str = "rgb24") -> bytes:
    encoder = CodecContext.create(codec, "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt, encoder.time_base = pix_fmt, Fraction(1, 25)
    if codec == "libwebp":
        encoder.options = {"lossless": "1"}
    frame = av.VideoFrame.from_ndarray(rgb, format=source_format).reformat(format=pix_fmt)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(packet) for packet in encoder.encode(frame) + encoder.encode(None))


def _tone(hz: float, seconds: float, rate_hz: int, amplitude: float = 0.5) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


@pytest.fixture(scope="session")
def barcode() -> Callable[..., Picture]:
    """barcode(number, width, height): a picture that carries a number below 1024."""
    return _barcode


@pytest.fixture(scope="session")
def read_barcode() -> Callable[[Picture], int]:
    """The number in a picture made by `barcode`."""
    return partial(read_number, bits=BARS)


@pytest.fixture(scope="session")
def write_video() -> Callable[..., bytes]:
    """Encode pictures; see `_write_video`."""
    return _write_video


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., bytes]:
    """Encode samples, beside pictures if given; see `_write_sound`."""
    return _write_sound


@pytest.fixture(scope="session")
def write_picture() -> Callable[..., bytes]:
    """Encode one picture; see `_write_picture`."""
    return _write_picture


@pytest.fixture(scope="session")
def corners() -> Callable[..., Picture]:
    """A picture with four colours in its corners."""
    return drawn_corners


@pytest.fixture(scope="session")
def read_corners() -> Callable[[Picture], str]:
    """The initials of the colours in the corners, row by row."""
    return read_drawn_corners


@pytest.fixture(scope="session")
def tone() -> Callable[..., NDArray[np.float64]]:
    """tone(hz, seconds, rate_hz, amplitude): a sine."""
    return _tone

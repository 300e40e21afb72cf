"""Decode one picture: JPEG, PNG or WebP, told apart by content.

Size and EXIF orientation are read from the headers here: the size, so that a bomb is refused before a decoder sees it;
the orientation, since PyAV names no side data of EXIF's kind.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import av
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.inputs.media.container import (
    ACCEPTED_PICTURES,
    MediaError,
    MediaLimits,
    Nameless,
    Source,
    decoder_options,
    refuse_over,
)
from models.inputs.media.orientation import Orientation, stored_rgb

PictureCodec = Literal["mjpeg", "png", "webp"]

_SIGNATURES: Final[dict[PictureCodec, re.Pattern[bytes]]] = {
    "mjpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
_SIGNATURE_BYTES = 12
_MAX_BYTES_A_PIXEL: Final = 8  # 16-bit RGBA that did not compress
_MAX_HEADER_BYTES: Final = 1 << 20
_WEBP_ANIMATION: Final = 0x02
_JPEG_MARKER: Final = re.compile(rb"\xff([^\0\1\xd0-\xd9\xff])", re.DOTALL)  # of a segment; others have no length

# TIFF's orientation 1 to 8: how the stored picture is displayed
_EXIF: Final = (
    Orientation(),
    Orientation(reversed_x=True),
    Orientation(reversed_x=True, reversed_y=True),
    Orientation(reversed_y=True),
    Orientation(swapped=True),
    Orientation(swapped=True, reversed_x=True),
    Orientation(swapped=True, reversed_x=True, reversed_y=True),
    Orientation(swapped=True, reversed_y=True),
)


class _Header(NamedTuple):
    width: int
    height: int
    orientation: Orientation


def picture_codec(head: bytes) -> PictureCodec | None:
    """Which kind of picture begins with `head` (12 bytes are enough); None if it is none of the three."""
    return next((codec for codec, signature in _SIGNATURES.items() if signature.match(head)), None)


def read_picture(source: Source, limits: MediaLimits) -> bytes | None:
    """The whole of `source` if it is a picture, else None. Raises MediaError where it is longer than any picture."""
    file = Nameless(source)
    if picture_codec(file.read(_SIGNATURE_BYTES)) is None:
        return None
    size, max_bytes = file.seek(0, 2), limits.max_pixels * _MAX_BYTES_A_PIXEL + _MAX_HEADER_BYTES
    if size > max_bytes:
        raise MediaError("too_large", f"the picture has {size} bytes; at most {max_bytes} are accepted: save it anew")
    file.seek(0)
    return file.read(size)


def decode_picture(source: Source, limits: MediaLimits) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W, 3), RGB, turned as its EXIF says; alpha is dropped. Of several pictures, the first.

    Raises MediaError: `unsupported_media`, `too_large` or `unreadable_media`.
    """
    data = read_picture(source, limits)
    codec_name = None if data is None else picture_codec(data[:_SIGNATURE_BYTES])
    if data is None or codec_name is None:
        raise MediaError("unsupported_media", f"the content is not one of the accepted pictures: {ACCEPTED_PICTURES}")
    try:
        header = _HEADERS[codec_name](data)
    except (struct.error, IndexError):
        raise _unreadable() from None
    refuse_over("pixels a picture", header.width * header.height, limits.max_pixels)
    codec = CodecContext.create(codec_name, "r")
    assert isinstance(codec, VideoCodecContext)
    codec.options = decoder_options(limits)
    codec.thread_count = 1
    try:
        frames = codec.decode(Packet(data)) or codec.decode(None)
        frame = frames[0]
        refuse_over("pixels a picture", frame.width * frame.height, limits.max_pixels)  # a header may lie
        stored = stored_rgb(frame, VideoReformatter())
    except (av.FFmpegError, IndexError):
        raise _unreadable() from None
    return header.orientation.apply(stored)


def _unreadable() -> MediaError:
    return MediaError("unreadable_media", "the picture is cut short or damaged and cannot be decoded")


def _jpeg_header(data: bytes) -> _Header:
    orientation = Orientation()
    for marker, body in _jpeg_segments(data):
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(body[6:])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack_from(">xHH", body)
            return _Header(width, height, orientation)
    raise IndexError("no start of frame")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and what follows them; bytes that belong to none are passed over, as decoders do."""
    at = 2
    while (marker := _JPEG_MARKER.search(data, at)) is not None:
        at = marker.end()
        (length,) = struct.unpack_from(">H", data, at)
        yield marker[1][0], data[at + 2 : at + length]
        at += length


def _png_header(data: bytes) -> _Header:
    width, height = struct.unpack_from(">II", data, 16)  # IHDR comes first
    orientation, at = Orientation(), 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            break
        if name == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    return _Header(width, height, orientation)


def _webp_header(data: bytes) -> _Header:
    width, height = _webp_size(data)
    orientation, at = Orientation(), 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return _Header(width, height, orientation)


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649: canvas of the extended format, else the size in the one bitstream. MediaError for an animation."""
    name = data[12:16]
    if name == b"VP8X":
        if data[20] & _WEBP_ANIMATION:
            raise MediaError("unsupported_media", "animated WebP is not accepted; send its pictures one by one")
        return (
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _exif_orientation(tiff: bytes) -> Orientation:
    """Tag 0x0112 of the first directory (TIFF 6.0, section 2); upright where there is none or it makes no sense."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == 0x0112 and 1 <= value <= 8:
                return _EXIF[value - 1]
    except struct.error:
        pass
    return Orientation()


_HEADERS: Final = {"mjpeg": _jpeg_header, "png": _png_header, "webp": _webp_header}

"""How the picture lies: turned, mirrored, stretched, cut, interlaced, of odd sizes."""

import struct
from fractions import Fraction
from functools import partial

from models.inputs.media.media import MediaLimits

from . import boxes
from .case import Case, Wanted
from .drawing import TURNS, corners, numbered
from .writing import Film, encoded, packed, write

FRAMES = 8
"""A program stream of fewer is too short to be known as one."""
ONE = 1 << 16
UNIT = 1 << 30
IN_MATROSKA = tuple(TURNS)[:5]
"""Matroska knows a roll and a mirror image."""


def fixed(a: float, b: float, c: float, d: float) -> tuple[int, ...]:
    return (*(round(v * ONE) for v in (a, b)), 0, *(round(v * ONE) for v in (c, d)), 0, 0, 0, UNIT)


def turned(container: str, matrix: tuple[int, ...], aspect: Fraction | None = None) -> bytes:
    return write(container, Film([corners()] * 2, matrix=fixed(*matrix), aspect=aspect))


def patched(*matrix: float) -> bytes:
    """A matrix that FFmpeg would not write."""
    return boxes.with_matrix(write("mp4", Film([corners()] * 2)), fixed(*matrix))


def turned_by_sei() -> bytes:
    """H.264's own message, display orientation (D.1.27): a quarter turn counter-clockwise."""
    bits = "0" + "00" + f"{1 << 14:016b}" + "1" + "0" + "1"
    body = int(bits.ljust(24, "0"), 2).to_bytes(3, "big")
    message = b"\0\0\0\1\x06" + bytes([47, len(body)]) + body + b"\x80"
    stream = write("h264", Film([corners()] * 2, options={"bf": "0"}))
    start = stream.index(b"\0\0\1\x65")
    start -= stream[start - 1] == 0
    data = stream[:start] + message + stream[start:]
    return packed("mpegts", "h264", [(0, data)], (64, 48))


def stretched(container: str, codec: str, aspect: Fraction, width: int = 64, height: int = 48) -> bytes:
    return write(container, Film([corners(height, width)] * FRAMES, codec, aspect=aspect))


def sized(width: int, height: int, container: str, codec: str, pix_fmt: str = "yuv420p") -> bytes:
    return write(container, Film([corners(height, width)] * 2, codec, pix_fmt))


def changing() -> bytes:
    """Motion JPEG whose pictures grow."""
    return packed("matroska", "mjpeg", [(0, encoded(numbered(1))), (40, encoded(numbered(2, 192, 64)))], (96, 32))


def interlaced(container: str, codec: str, **options: str) -> bytes:
    return write(container, Film([corners(64, 96)] * 4, codec, options=options))


def exif(picture: bytes, orientation: int) -> bytes:
    body = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + picture[2:]


def as_turned(read: str) -> Wanted:
    sideways = read in ("BR WG", "GW RB", "RB GW", "WG BR")
    size = (48, 64) if sideways else (64, 48)
    return Wanted(corners=read, size=size, pixels=size)


upright = Wanted(corners="RG BW", size=(64, 48), pixels=(64, 48))
woven = Wanted(corners="RG BW", size=(96, 64), pixels=(96, 64))

CASES = [
    *(
        Case(
            "rotation and mirroring",
            f"{name}, {container}",
            lambda c=container, m=matrix: turned(c, m),
            as_turned(read),
        )
        for container in ("mp4", "matroska")
        for name, (matrix, read) in TURNS.items()
        if container == "mp4" or name in IN_MATROSKA
    ),
    Case("rotation and mirroring", "30°", lambda: patched(0.866, 0.5, -0.5, 0.866), upright),
    Case("rotation and mirroring", "60°", lambda: patched(0.5, 0.866, -0.866, 0.5), as_turned("BR WG")),
    Case("rotation and mirroring", "a matrix of zeros", lambda: patched(0, 0, 0, 0), upright),
    Case("rotation and mirroring", "by H.264's own message", turned_by_sei, as_turned("GW RB")),
    Case("rotation and mirroring", "EXIF of a JPEG", lambda: exif(encoded(corners()), 6), as_turned("BR WG")),
    *(
        Case(
            "anamorphic",
            name,
            partial(stretched, container, codec, aspect),
            Wanted(size=(64, 48), pixels=pixels, corners="RG BW"),
        )
        for name, container, codec, aspect, pixels in (
            ("16:11 in MP4", "mp4", "libx264", Fraction(16, 11), (77, 39)),
            ("16:11 in a transport stream", "mpegts", "libx264", Fraction(16, 11), (77, 39)),
            ("MPEG-2's 16:9", "mpeg", "mpeg2video", Fraction(4, 3), (73, 41)),
            ("taller than wide", "matroska", "libx264", Fraction(1, 2), (45, 67)),
        )
    ),
    Case(
        "anamorphic",
        "and turned",
        lambda: turned("mp4", (0, 1, -1, 0), Fraction(4, 3)),
        Wanted(size=(48, 64), pixels=(41, 73), corners="BR WG"),
    ),
    Case(
        "anamorphic",
        "by the matrix",
        lambda: patched(2, 0, 0, 1),
        Wanted(size=(64, 48), pixels=(90, 33), corners="RG BW"),
    ),
    Case("anamorphic", "hardly (1.005)", lambda: stretched("mp4", "libx264", Fraction(201, 200)), upright),
    Case("anamorphic", "absurdly (200)", lambda: stretched("mp4", "libx264", Fraction(200, 1)), upright),
    Case(
        "odd sizes",
        "35 × 27, 4:2:0",
        lambda: sized(35, 27, "webm", "libvpx-vp9"),
        Wanted(size=(35, 27), pixels=(35, 27), corners="RG BW"),
    ),
    Case(
        "odd sizes",
        "35 × 27, 4:4:4",
        lambda: sized(35, 27, "mp4", "libx264", "yuv444p"),
        Wanted(size=(35, 27), corners="RG BW"),
    ),
    Case(
        "odd sizes",
        "50 × 38, cut out of 64 × 48",
        lambda: sized(50, 38, "mp4", "libx264"),
        Wanted(size=(50, 38), corners="RG BW"),
    ),
    Case("odd sizes", "2 × 300", lambda: sized(2, 300, "mp4", "libx264"), Wanted(size=(2, 300), pixels=(2, 300))),
    Case(
        "odd sizes",
        "a size that changes",
        changing,
        Wanted(size=(96, 32), pixels=(192, 64), times_s=(0, 0.04), numbers=(1, 2)),
    ),
    Case(
        "odd sizes",
        "more pixels than are accepted",
        lambda: sized(64, 48, "mp4", "libx264"),
        Wanted(refused="too_large", says=("3072 pixels", "3071")),
        MediaLimits(max_pixels=3071),
    ),
    Case("1 × 1", "video", lambda: sized(1, 1, "webm", "libvpx-vp9"), Wanted(size=(1, 1), pixels=(1, 1))),
    Case(
        "1 × 1",
        "video of anamorphic pixels",
        lambda: stretched("mp4", "mpeg4", Fraction(4, 3), 1, 1),
        Wanted(size=(1, 1), pixels=(1, 1)),
    ),
    Case(
        "1 × 1",
        "PNG",
        lambda: encoded(corners(1, 1), "png", "rgb24"),
        Wanted(size=(1, 1), pixels=(1, 1), columns=((255, 255, 255),)),
    ),
    Case("interlaced", "MPEG-2", lambda: interlaced("mpegts", "mpeg2video", flags="+ildct+ilme"), woven),
    Case("interlaced", "H.264", lambda: interlaced("mp4", "libx264", **{"x264-params": "tff=1"}), woven),
]

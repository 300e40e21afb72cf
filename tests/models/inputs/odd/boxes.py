"""Changes to a finished MP4: boxes of ISO 14496-12 that FFmpeg would not write as they are wanted."""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

PARENTS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")
Edit = tuple[int, int]
"""How long, in the movie's unit (ms in what FFmpeg writes), and from which time of the medium on; −1 is a pause."""


class Box(NamedTuple):
    name: bytes
    body: bytes


def read(data: bytes) -> list[Box]:
    boxes, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        boxes.append(Box(name, data[at + 8 : at + size]))
        at += size
    return boxes


def joined(boxes: Sequence[Box]) -> bytes:
    return b"".join(struct.pack(">I4s", 8 + len(box.body), box.name) + box.body for box in boxes)


def changed(data: bytes, name: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Every box of this name with another body. The index lies behind the media, so no place in it moves."""
    boxes = []
    for box in read(data):
        if box.name == name:
            boxes.append(Box(name, change(box.body)))
        else:
            boxes.append(Box(box.name, changed(box.body, name, change)) if box.name in PARENTS else box)
    return joined(boxes)


def with_edits(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Another edit list, in each of the tracks."""
    body = struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    return changed(data, b"elst", lambda _: body)


def with_matrix(data: bytes, matrix: Sequence[int]) -> bytes:
    """Another display matrix in the track's header (version 0)."""
    return changed(data, b"tkhd", lambda body: body[:40] + struct.pack(">9i", *matrix) + body[76:])


def with_duration(data: bytes, units: int) -> bytes:
    """Another length in the headers of movie, track and medium (version 0)."""
    word = struct.pack(">I", units)
    for name, at in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        data = changed(data, name, lambda body, at=at: body[:at] + word + body[at + 4 :])
    return data

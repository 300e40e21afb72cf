"""What a recording is made of: boxes, elements, chunks, pages, segments; and where their sizes and names are written.

The readers follow valid files, and stop where a file makes no sense: what they find is only where to damage it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

MOST_PARTS: Final = 4_000
NESTED_BOXES: Final[Mapping[bytes, int]] = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"moof", b"traf"), 0),
    **dict.fromkeys((b"mvex", b"ilst"), 0),
    b"meta": 4,
    b"stsd": 8,
    b"dref": 8,
    b"avc1": 78,
    b"mp4v": 78,
    b"mp4a": 28,
}
"""Boxes of boxes, and how many bytes lie before the first of them."""
NESTED_ELEMENTS: Final = frozenset(
    {0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0xA0, 0x1C53BB6B, 0xBB, 0xB7}
    | {0x114D9B74, 0x4DBB, 0x1254C367, 0x7373, 0x63C0, 0x67C8, 0x55B0}
)
"""Matroska's elements of elements."""
PACKET_BYTES: Final = 188
PAGE_HEAD_BYTES: Final = 27

Coding = Literal["big", "little", "vint"]


class SizeField(NamedTuple):
    """Where a part's size is written, and how; `extra` is what it counts beside the content."""

    at: int
    width: int
    coding: Coding
    extra: int = 0


class Part(NamedTuple):
    """From `start` to `end`, with its content from `content` on; its name has `name_bytes` bytes at `name_at`."""

    start: int
    content: int
    end: int
    name_at: int
    name_bytes: int
    size: SizeField | None


def parts_of(data: bytes) -> list[Part]:
    """Every part, outer ones before those inside; nothing for a file of another kind."""
    for begins, read in READERS.items():
        if data[: len(begins)] == begins:
            return list(limited(read(data, 0, len(data))))
    return list(limited(boxes(data, 0, len(data)))) if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") else []


def limited(parts: Iterator[Part]) -> Iterator[Part]:
    for _, part in zip(range(MOST_PARTS), parts, strict=False):
        yield part


def boxes(data: bytes, start: int, end: int) -> Iterator[Part]:
    """ISO 14496-12."""
    while start + 8 <= end:
        size, length = int.from_bytes(data[start : start + 4], "big"), 8
        field = SizeField(start, 4, "big", 8)
        if size == 1:
            size, length = int.from_bytes(data[start + 8 : start + 16], "big"), 16
            field = SizeField(start + 8, 8, "big", 16)
        stop = min(start + size, end) if size else end
        if stop < start + length:
            return
        name = data[start + 4 : start + 8]
        yield Part(start, start + length, stop, start + 4, 4, field)
        if name in NESTED_BOXES:
            yield from boxes(data, start + length + NESTED_BOXES[name], stop)
        start = stop


def elements(data: bytes, start: int, end: int) -> Iterator[Part]:
    """EBML (RFC 8794): names and sizes of one to eight bytes."""
    while start < end:
        name_bytes = vint_width(data[start])
        at = start + name_bytes
        if not name_bytes or at >= end or not (width := vint_width(data[at])):
            return
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        unknown = size == (1 << 7 * width) - 1
        content = at + width
        stop = end if unknown else min(content + size, end)
        yield Part(start, content, stop, start, name_bytes, SizeField(at, width, "vint"))
        if int.from_bytes(data[start:at], "big") in NESTED_ELEMENTS:
            yield from elements(data, content, stop)
        start = stop


def vint_width(first: int) -> int:
    """
    >>> vint_width(0x1A), vint_width(0x80), vint_width(0)
    (4, 1, 0)
    """
    return 9 - first.bit_length() if first else 0


def chunks(data: bytes, start: int, end: int) -> Iterator[Part]:
    """RIFF: WAV, AVI, WebP."""
    while start + 8 <= end:
        content = start + 8
        stop = min(content + int.from_bytes(data[start + 4 : content], "little"), end)
        yield Part(start, content, stop, start, 4, SizeField(start + 4, 4, "little"))
        if data[start : start + 4] in (b"RIFF", b"LIST"):
            yield from chunks(data, content + 4, stop)
        start = stop + stop % 2


def png_chunks(data: bytes, start: int, end: int) -> Iterator[Part]:
    start += 8
    while start + 12 <= end:
        stop = min(start + 12 + int.from_bytes(data[start : start + 4], "big"), end)
        yield Part(start, start + 8, stop, start + 4, 4, SizeField(start, 4, "big", -4))
        start = stop


def segments(data: bytes, start: int, end: int) -> Iterator[Part]:
    """JPEG, as far as the picture's own data."""
    start += 2
    while start + 4 <= end and data[start] == 0xFF:
        stop = min(start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"), end)
        yield Part(start, start + 4, stop, start + 1, 1, SizeField(start + 2, 2, "big", 2))
        if data[start + 1] == 0xDA or stop < start + 4:
            return
        start = stop


def pages(data: bytes, start: int, end: int) -> Iterator[Part]:
    """Ogg (RFC 3533). The type of a page stands for its name."""
    while start + PAGE_HEAD_BYTES <= end and data[start : start + 4] == b"OggS":
        content = start + PAGE_HEAD_BYTES + data[start + 26]
        stop = min(content + sum(data[start + PAGE_HEAD_BYTES : content]), end)
        if stop < content:
            return
        yield Part(start, content, stop, start + 5, 1, None)
        start = stop


def packets(_: bytes, start: int, end: int) -> Iterator[Part]:
    """An MPEG transport stream. The number of a packet's stream stands for its name."""
    for at in range(start, end - PACKET_BYTES + 1, PACKET_BYTES):
        yield Part(at, at + 4, at + PACKET_BYTES, at + 1, 2, None)


def packs(data: bytes, start: int, end: int) -> Iterator[Part]:
    """An MPEG program stream: packs have no size, the packets in them have."""
    while start + 6 <= end and data[start : start + 3] == b"\0\0\1":
        if data[start + 3] < 0xBB:
            following = data.find(b"\0\0\1", start + 4)
            content, stop, field = start + 4, following if following >= 0 else end, None
        else:
            content, field = start + 6, SizeField(start + 4, 2, "big")
            stop = min(content + int.from_bytes(data[start + 4 : content], "big"), end)
        yield Part(start, content, stop, start + 3, 1, field)
        start = stop


def flac_blocks(data: bytes, start: int, end: int) -> Iterator[Part]:
    start += 4
    last = False
    while start + 4 <= end and not last:
        last = data[start] >= 0x80
        stop = min(start + 4 + int.from_bytes(data[start + 1 : start + 4], "big"), end)
        yield Part(start, start + 4, stop, start, 1, SizeField(start + 1, 3, "big"))
        start = stop


READERS: Final[Mapping[bytes, Callable[[bytes, int, int], Iterator[Part]]]] = {
    b"\x1aE\xdf\xa3": elements,
    b"RIFF": chunks,
    b"\x89PNG": png_chunks,
    b"\xff\xd8": segments,
    b"OggS": pages,
    b"\x47": packets,
    b"\0\0\1\xba": packs,
    b"fLaC": flac_blocks,
}


def sized(part: Part, content_bytes: int) -> bytes:
    """The bytes of the part's size field for a content of this length, in the width that it has."""
    field = part.size
    assert field is not None
    value = max(0, content_bytes + field.extra)
    if field.coding == "vint":
        return (min(value, (1 << 7 * field.width) - 1) | 1 << 7 * field.width).to_bytes(field.width, "big")
    return (value % (1 << 8 * field.width)).to_bytes(field.width, field.coding)

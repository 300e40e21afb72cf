"""What a recording's structure says before FFmpeg sees it: references to other files, frames, and bytes of metadata.

FFmpeg takes memory for what a file declares: 24 bytes a frame of a movie's index, and all of its titles and covers. So
this is read first, in headers alone. A file that hides something from here by being broken gains nothing: FFmpeg opens
no other file, and its memory is bounded.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

MAX_PARTS: Final = 100_000
"""Boxes, elements or chunks that are looked at."""

MOVIE: Final = re.compile(rb".{4}(ftyp|moov|moof|mdat|free|skip|wide|pnot)", re.DOTALL)
NESTED_BOXES: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf")
METADATA_BOXES: Final = (b"udta", b"meta", b"uuid")
REFERENCE_MOVIE: Final = b"rmra"
SELF_CONTAINED: Final = 1
EMPTY_REFERENCE_BYTES: Final = 12
MAX_REFERENCE_BYTES: Final = 1 << 16

SEGMENT: Final = 0x18538067
METADATA_ELEMENTS: Final = (0x1254C367, 0x1941A469, 0x1043A770)
"""Matroska's Tags, Attachments and Chapters."""

METADATA_CHUNKS: Final = (b"LIST", b"id3 ", b"ID3 ", b"iXML", b"axml", b"_PMX", b"bext")
AUDIO_STREAM_INFO: Final = 0
"""The one FLAC block that is no metadata."""


class Readable(Protocol):
    """The part of a file object that is used."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes from the position on."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position, and return it."""


class Structure(NamedTuple):
    """What was found; nothing, where the container has no such thing or is broken."""

    metadata_bytes: int = 0
    frames: int = 0
    """Of the longest video track, as its index says."""
    refers_elsewhere: bool = False
    """Pictures or sound lie in another file."""


class Part(NamedTuple):
    """A box, element or chunk: its name, and where its content lies."""

    name: bytes | int
    start: int
    end: int

    @property
    def size(self) -> int:
        return max(0, self.end - self.start)  # headers may reach over the end of what they lie in


def examine(file: Readable) -> Structure:
    """Walk through the headers; the file's position is moved."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    if MOVIE.match(head):
        return movie(file, size)
    if head.startswith(b"\x1aE\xdf\xa3"):
        parts = elements(file, 0, size)
        return Structure(sum(part.size for part in parts if part.name in METADATA_ELEMENTS))
    if head[:4] in (b"RIFF", b"RF64"):
        return Structure(sum(part.size for part in chunks(file, 12, size) if part.name in METADATA_CHUNKS))
    return Structure(tag_bytes(file))


def movie(file: Readable, size: int) -> Structure:
    """The boxes of ISO 14496-12 and QuickTime, as deep as the tracks' tables."""
    metadata, refers_elsewhere = 0, False
    handlers: dict[int, bytes] = {}
    samples: dict[int, int] = {}
    inside = [Part(b"", 0, size)]
    medium = [0]  # for each box in `inside`, where its medium begins
    looked_at = 0
    while inside and looked_at < MAX_PARTS:
        box, track = inside.pop(), medium.pop()
        for part in boxes(file, box.start, box.end):
            looked_at += 1
            if looked_at == MAX_PARTS:
                break
            if part.name in NESTED_BOXES:
                inside.append(part)
                medium.append(part.start if part.name == b"mdia" else track)
            elif part.name in METADATA_BOXES:
                metadata += part.size
            elif part.name == b"hdlr" and box.name == b"mdia":
                handlers[track] = content(file, part, 12)[8:]
            elif part.name in (b"stsz", b"stz2"):
                samples[track] = int.from_bytes(content(file, part, 12)[8:], "big")
            elif part.name == b"dref":
                refers_elsewhere |= names_other_files(file, part)
            elif part.name == REFERENCE_MOVIE:
                refers_elsewhere = True
    # a track of sound counts each of its samples, by the million
    frames = max((count for track, count in samples.items() if handlers.get(track) == b"vide"), default=0)
    return Structure(metadata, frames, refers_elsewhere)


def names_other_files(file: Readable, dref: Part) -> bool:
    """Whether an entry of a data reference box says that the media is not in this file, and where it is."""
    for entry in boxes(file, dref.start + 8, min(dref.end, dref.start + MAX_REFERENCE_BYTES)):
        flags = int.from_bytes(content(file, entry, 4)[1:], "big")
        if not flags & SELF_CONTAINED and entry.size + 8 > EMPTY_REFERENCE_BYTES:
            return True
    return False


def content(file: Readable, part: Part, most: int) -> bytes:
    file.seek(part.start)
    return file.read(min(most, part.size))


def boxes(file: Readable, start: int, end: int) -> Iterator[Part]:
    """ISO 14496-12, 4.2: size and type; a size of 1 is followed by one of 64 bits, 0 reaches to the end."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, length = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, length = int.from_bytes(header[8:], "big"), 16
        size = size or end - start
        if size < length:
            return
        yield Part(header[4:8], start + length, min(start + size, end))
        start += size


def elements(file: Readable, start: int, end: int) -> Iterator[Part]:
    """Matroska's top elements and those of its segment (RFC 8794); it ends at one of unknown size."""
    for _ in range(MAX_PARTS):
        file.seek(start)
        header = file.read(12)
        if not header or not (id_bytes := vint_bytes(header[0])) or len(header) <= id_bytes:
            return
        size_bytes = vint_bytes(header[id_bytes])
        name, coded = int.from_bytes(header[:id_bytes], "big"), header[id_bytes : id_bytes + size_bytes]
        start += id_bytes + size_bytes
        unknown = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(coded, "big") & unknown
        if name == SEGMENT:
            continue
        if not size_bytes or size == unknown:
            return
        yield Part(name, start, min(start + size, end))
        start += size


def vint_bytes(first: int) -> int:
    """The length of a variable-size integer by its first byte; 0 for none."""
    return 9 - first.bit_length() if first else 0


def chunks(file: Readable, start: int, end: int) -> Iterator[Part]:
    """RIFF's chunks: name, size, content, and a byte more where the size is odd."""
    for _ in range(MAX_PARTS):
        file.seek(start)
        header = file.read(12)
        if len(header) < 8:
            return
        name, size = struct.unpack_from("<4sI", header)
        if header[8:] not in (b"movi", b"hdrl"):  # lists of AVI's that hold the film
            yield Part(name, start + 8, min(start + 8 + size, end))
        start += 8 + size + size % 2


def tag_bytes(file: Readable) -> int:
    """ID3v2 tags at the beginning, and FLAC's blocks after them."""
    start = total = 0
    for _ in range(MAX_PARTS):
        file.seek(start)
        header = file.read(10)
        if not header.startswith(b"ID3") or len(header) < 10:
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        start, total = start + 10 + size, total + size
    if not header.startswith(b"fLaC"):
        return total
    start += 4
    for _ in range(MAX_PARTS):
        file.seek(start)
        header = file.read(4)
        if len(header) < 4:
            break
        size = int.from_bytes(header[1:], "big")
        total += size if header[0] & 0x7F != AUDIO_STREAM_INFO else 0
        start += 4 + size
        if header[0] & 0x80:  # the last one
            break
    return total

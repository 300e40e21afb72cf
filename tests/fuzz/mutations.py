"""Damage to bytes: blind, or where a recording's structure says what they mean. All of it by one seeded generator."""

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from .parts import Part, pages, parts_of, sized

NUMBERS: Final = (0, 1, 2, 7, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, (1 << 24) - 1)
NUMBERS_WIDE: Final = ((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 56) - 1, (1 << 63) - 1, 1 << 63)
NAMES: Final = tuple(
    b"ftyp moov moof mdat trak mdia minf stbl stsd stts stsc stsz stco co64 ctts stss elst edts dref udta meta uuid "
    b"trun tfhd avcC hvcC esds cmov rmra sidx mfra RIFF LIST JUNK fmt  data idx1 strf strh movi IHDR IDAT acTL VP8X "
    b"ANIM ANMF ALPH".split()
)
ELEMENT_NAMES: Final = tuple(
    bytes.fromhex(name)
    for name in (
        *("1A45DFA3", "18538067", "1549A966", "1654AE6B", "1F43B675", "1C53BB6B", "1941A469", "1043A770", "2AD7B1"),
        *("6D80", "63A2", "55EE", "4489", "7373", "AE", "E0", "E1", "A0", "A1", "A3", "EC", "BF", "86", "B0", "BA"),
        *("9B", "E7", "83"),
    )
)
SIGNATURES: Final = (
    *(b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"OggS\0\x02", b"fLaC", b"ID3\x04", b"\x1aE\xdf\xa3"),
    *(b"\0\0\0\x18ftypisom", b"RIFF\xff\xff\xff\xffAVI ", b"\0\0\1\xba", b"\0\0\0\1\x67", b"\0\0\0\1\x65", b"G@\0\x10"),
    *(
        b"#EXTM3U\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<svg>",
        b"<?xml",
        b"%PDF-1.7",
        b"PK\3\4",
        b"\x7fELF",
    ),
)
COUNTS_WITHIN: Final = 40
"""Counts and rates stand in the first bytes of a part's content."""

Mutate = Callable[[Random, bytes], bytes]


def damaged(chance: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` after one to six mutations; pieces of `others` may get into it."""
    for _ in range(min(6, 1 + int(chance.expovariate(0.8)))):
        parts = parts_of(data) if chance.random() < 0.65 else []
        if parts:
            data = chance.choice(ON_PARTS)(chance, data, parts)
        elif others and chance.random() < 0.08:
            data = crossed(chance, data, chance.choice(others))
        else:
            data = chance.choice(ON_BYTES)(chance, data)
    return checksummed(data) if data[:4] == b"OggS" and chance.random() < 0.8 else data


def number(chance: Random) -> int:
    pick = chance.random()
    if pick < 0.5:
        return chance.choice(NUMBERS)
    return chance.choice(NUMBERS_WIDE) if pick < 0.75 else chance.getrandbits(chance.choice((8, 16, 32, 64)))


def place(chance: Random, data: bytes) -> int:
    """More often near the beginning, where the headers are."""
    return int(len(data) * chance.random() ** chance.choice((1, 4)))


def length(chance: Random, most: int) -> int:
    return min(most, int(chance.expovariate(1 / 40)) + 1)


def flip_bits(chance: Random, data: bytes) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(1 + int(chance.expovariate(0.2))):
        changed[place(chance, data)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(chance: Random, data: bytes) -> bytes:
    at, size = place(chance, data), length(chance, len(data))
    kind = chance.random()
    noise = chance.randbytes(size) if kind < 0.6 else (b"\0" if kind < 0.8 else b"\xff") * size
    return data[:at] + noise[: len(data) - at] + data[at + size :]


def write_number(chance: Random, data: bytes) -> bytes:
    at, width = place(chance, data), chance.choice((1, 2, 4, 8))
    written = (number(chance) % (1 << 8 * width)).to_bytes(width, chance.choice(("big", "little")))
    return data[:at] + written + data[at + width :]


def truncate(chance: Random, data: bytes) -> bytes:
    return data[: place(chance, data)] if chance.random() < 0.7 else data[place(chance, data) :]


def remove_bytes(chance: Random, data: bytes) -> bytes:
    at = place(chance, data)
    return data[:at] + data[at + length(chance, len(data)) :]


def repeat_bytes(chance: Random, data: bytes) -> bytes:
    at = place(chance, data)
    piece = data[at : at + length(chance, len(data))]
    return data[:at] + piece * chance.choice((2, 2, 3, 100)) + data[at:]


def insert(chance: Random, data: bytes) -> bytes:
    at = chance.choice((0, place(chance, data), len(data)))
    kind = chance.random()
    if kind < 0.5:
        inserted = chance.choice(SIGNATURES)
    else:
        inserted = chance.randbytes(length(chance, 1000)) if kind < 0.95 else bytes(chance.choice((5_000, 100_000)))
    return data[:at] + inserted + data[at:]


def crossed(chance: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: place(chance, data)] + other[place(chance, other) :]


ON_BYTES: Final[tuple[Mutate, ...]] = (
    *(flip_bits, flip_bits, overwrite, write_number, write_number),
    *(truncate, remove_bytes, repeat_bytes, insert),
)


def replaced(chance: Random, data: bytes, parts: Sequence[Part], at: int, end: int, inserted: bytes) -> bytes:
    """`inserted` in place of `at` to `end`; often the sizes of the parts around it are made to fit."""
    grown = len(inserted) - (end - at)
    changed = bytearray(data)
    if grown and chance.random() < 0.7:
        for part in parts:
            if part.content <= at and end <= part.end and part.size is not None:
                field = part.size
                changed[field.at : field.at + field.width] = sized(part, part.end - part.content + grown)
    changed[at:end] = inserted
    return bytes(changed)


def resize(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    """Another size than the part has: odd, huge, a little off, or Matroska's "unknown"."""
    written = [part for part in parts if part.size is not None]
    if not written:
        return write_number(chance, data)
    part = chance.choice(written)
    field = part.size
    assert field is not None
    if field.coding == "vint" and chance.random() < 0.3:
        new = b"\xff" if field.width == 1 else bytes([(1 << 8 - field.width) | (1 << 8 - field.width) - 1])
        new += b"\xff" * (field.width - 1)
    elif chance.random() < 0.4:
        new = sized(part, part.end - part.content + chance.choice((-9, -8, -4, -1, 1, 4, 8, 1000)))
    else:
        new = sized(part, number(chance))
    return data[: field.at] + new + data[field.at + field.width :]


def rename(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    part = chance.choice(parts)
    fit = [name for name in (*NAMES, *ELEMENT_NAMES) if len(name) == part.name_bytes]
    new = chance.choice(fit) if fit and chance.random() < 0.8 else chance.randbytes(part.name_bytes)
    return data[: part.name_at] + new + data[part.name_at + part.name_bytes :]


def drop(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    part = chance.choice(parts)
    return replaced(chance, data, parts, part.start, part.end, b"")


def empty(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    """The part stays, with less or nothing in it."""
    part = chance.choice(parts)
    keep = chance.choice((0, 0, 4, 8, (part.end - part.content) // 2))
    return replaced(chance, data, parts, min(part.content + keep, part.end), part.end, b"")


def double(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    part = chance.choice(parts)
    copies = chance.choice((1, 1, 1, 5, 40))
    return replaced(chance, data, parts, part.end, part.end, data[part.start : part.end][:50_000] * copies)


def move(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    """A copy of the part goes before, behind or into another one, which may lie inside it."""
    part, target = chance.choice(parts), chance.choice(parts)
    at = chance.choice((target.start, target.content, target.end))
    return replaced(chance, data, parts, at, at, data[part.start : part.end])


def nest(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    """The part within copies of its own header, many levels deep."""
    part = chance.choice(parts)
    head, levels = data[part.start : part.content], chance.choice((2, 10, 300))
    return replaced(chance, data, parts, part.content, part.content, head * levels)


def swap(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    one, other = sorted(chance.choices(parts, k=2))
    if one == other or one.end > other.start:
        return flip_bits(chance, data)
    ranges = ((0, one.start), other[0:3:2], (one.end, other.start), one[0:3:2], (other.end, len(data)))
    return b"".join(data[start:end] for start, end in ranges)


def recount(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    """Another number among the first ones of the content: counts, versions, rates, widths."""
    part = chance.choice(parts)
    width = chance.choice((1, 2, 4, 4, 8))
    room = min(COUNTS_WITHIN, part.end - part.content - width)
    if room < 0:
        return flip_bits(chance, data)
    at = part.content + chance.randrange(0, room + 1, min(width, 4))
    new = (number(chance) % (1 << 8 * width)).to_bytes(width, chance.choice(("big", "big", "little")))
    return data[:at] + new + data[at + width :]


def overwrite_content(chance: Random, data: bytes, parts: Sequence[Part]) -> bytes:
    part = chance.choice(parts)
    content = data[part.content : part.end]
    return data[: part.content] + chance.choice((flip_bits, overwrite))(chance, content) + data[part.end :]


ON_PARTS: Final = (
    *(resize, resize, recount, recount, recount, overwrite_content, overwrite_content),
    *(rename, drop, empty, double, move, nest, swap),
)


def checksummed(data: bytes) -> bytes:
    """An Ogg file whose pages have the right checksums, without which a reader would throw them away."""
    changed = bytearray(data)
    for page in pages(data, 0, len(data)):
        changed[page.start + 22 : page.start + 26] = bytes(4)
        changed[page.start + 22 : page.start + 26] = crc32(changed[page.start : page.end]).to_bytes(4, "little")
    return bytes(changed)


def crc32(data: bytes | bytearray) -> int:
    """Ogg's: polynomial 0x04C11DB7, nothing reflected, nothing inverted."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ CRC_TABLE[crc >> 24 ^ byte]
    return crc


def crc_of_byte(byte: int) -> int:
    crc = byte << 24
    for _ in itertools.repeat(None, 8):
        crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


CRC_TABLE: Final = tuple(map(crc_of_byte, range(256)))

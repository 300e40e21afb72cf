"""When pictures are shown: clocks that stumble, run backwards, wrap or lie."""

import io
from collections.abc import Sequence
from typing import Any

import av

from . import boxes
from .case import Case, Wanted
from .drawing import numbered
from .sound import tone
from .writing import Film, Sound, encoded, packed, write

NO_B_FRAMES = {"bf": "0"}
MS = 16
"""Units of the medium in a millisecond, where FFmpeg writes an MP4 whose clock ticks in milliseconds."""
WRAP_S = 2**33 / 90_000
"""Where the clock of a transport stream begins again."""


def film(count: int, *, first: int = 0, start_ms: int = 0, times_ms: Sequence[int] | None = None, **other: Any) -> Film:
    times_ms = [start_ms + 40 * i for i in range(count)] if times_ms is None else times_ms
    return Film([numbered(first + i) for i in range(count)], times_ms=times_ms, **other)


def clocked(*times_ms: int) -> bytes:
    """Motion JPEG in Matroska: the packets' times are written as they are."""
    return packed("matroska", "mjpeg", [(t, encoded(numbered(i))) for i, t in enumerate(times_ms)], (96, 32))


def untimed(**options: str) -> bytes:
    """AVI knows no times of presentation, and B-frames are not stored in their order."""
    return write("avi", film(10, codec="mpeg4", options={"qscale": "2"} | options))


def edited(*edits: boxes.Edit) -> bytes:
    return boxes.with_edits(write("mp4", film(10, options=NO_B_FRAMES)), edits)


def transport(count: int, first: int = 0, start_ms: int = 0) -> bytes:
    return write("mpegts", film(count, first=first, start_ms=start_ms, options=NO_B_FRAMES))


def begun_late() -> bytes:
    """A recording of a transmission begins anywhere: here seven frames after a key frame, thirteen before the next."""
    whole = write("mpegts", film(60, options={"g": "20", "bf": "0", "sc_threshold": "0"}))
    with av.open(io.BytesIO(whole)) as opened:
        places = [packet.pos for packet in opened.demux() if packet.size]
    return whole[places[7] :]


def evenly(count: int, start_s: float = 0.0, step_s: float = 0.04) -> tuple[float, ...]:
    return tuple(start_s + step_s * i for i in range(count))


def late_picture() -> bytes:
    return write("mp4", film(10, start_ms=400, options=NO_B_FRAMES), Sound(tone(440, 0.8, 48_000), 48_000, "aac"))


IRREGULAR = (0, 40, 500, 520, 1500)
irregular = Wanted(times_s=tuple(t / 1000 for t in IRREGULAR), numbers=(0, 1, 2, 3, 4), duration_s=1.54, fps=4 / 1.5)
whole = Wanted(times_s=evenly(10), numbers=tuple(range(10)), duration_s=0.4)
single = Wanted(times_s=(0.0,), numbers=(5,), duration_s=0.04)

CASES = [
    *(
        Case("variable frame rate", name, lambda name=name: write(name, film(5, times_ms=IRREGULAR)), irregular)
        for name in ("mp4", "matroska")
    ),
    Case(
        "variable frame rate",
        "a picture every five seconds",
        lambda: write("mp4", film(3, times_ms=[0, 5000, 10_000])),
        Wanted(times_s=(0, 5, 10), numbers=(0, 1, 2)),
    ),
    Case("negative times", "Matroska", lambda: clocked(*range(-200, 200, 40)), whole),
    Case("times that begin late", "MP4", lambda: write("mp4", film(10, start_ms=2000)), whole),
    Case("times that begin late", "transport stream", lambda: transport(10, start_ms=26_000_000), whole),
    Case(
        "times that begin late",
        "a clock that wraps",
        lambda: transport(10, start_ms=round(1000 * WRAP_S) - 200),
        whole,
    ),
    Case(
        "broken times",
        "two frames in the wrong order",
        lambda: clocked(0, 80, 40, 120, 160),
        Wanted(times_s=(0, 0.04, 0.08, 0.12, 0.16), numbers=(0, 0, 1, 3, 4), duration_s=0.2),
    ),
    Case(
        "broken times",
        "a clock that stands still",
        lambda: clocked(0, 0, 0, 40),
        Wanted(times_s=(0, 0, 0, 0.04), numbers=(0, 0, 0, 3), duration_s=0.08),
    ),
    Case(
        "broken times",
        "a recorder that was started anew",
        lambda: transport(10, start_ms=10_000) + transport(20, 10, start_ms=9_800),
        Wanted(numbers=(*[0] * 5, *(n for n in range(10) for _ in range(2)), *range(25, 30)), duration_s=0.6, fps=25),
    ),
    Case("broken times", "none at all", untimed, whole),
    Case(
        "broken times",
        "none at all, and frames out of order",
        lambda: untimed(bf="2"),
        Wanted(times_s=(*evenly(9, 0.04), 0.36), numbers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 8)),
    ),
    Case(
        "a hole in the times",
        "half a second",
        lambda: transport(10) + transport(10, 10, start_ms=900),
        Wanted(times_s=(*evenly(10), *evenly(10, 0.9)), numbers=tuple(range(20)), duration_s=1.3),
    ),
    Case(
        "a hole in the times",
        "three hours",
        lambda: clocked(0, 40, 3 * 3_600_000),
        Wanted(refused="too_long", says=("10800.0 s", "900 s")),
    ),
    Case("one frame", "MP4", lambda: write("mp4", film(1, first=5, times_ms=[0])), single),
    Case("one frame", "WebM", lambda: write("webm", film(1, first=5, times_ms=[0], codec="libvpx-vp9")), single),
    Case("one frame", "AVI", lambda: write("avi", Film([numbered(5)], "mpeg4")), single),
    Case("one frame", "a JPEG as `video`", lambda: encoded(numbered(5)), single),
    Case(
        "edit lists",
        "without its beginning",
        lambda: edited((200, 200 * MS)),
        Wanted(times_s=evenly(5), numbers=(5, 6, 7, 8, 9), duration_s=0.2),
    ),
    Case(
        "edit lists",
        "without its end",
        lambda: edited((200, 0)),
        Wanted(times_s=evenly(5), numbers=(0, 1, 2, 3, 4), duration_s=0.2),
    ),
    Case(
        "edit lists",
        "with a pause in the middle",
        lambda: edited((200, 0), (400, -1), (200, 200 * MS)),
        Wanted(times_s=evenly(20), numbers=(0, 1, 2, 3, 4, *range(10), 5, 6, 7, 8, 9), duration_s=0.8),
    ),
    Case(
        "edit lists",
        "the end before the beginning",
        lambda: edited((200, 200 * MS), (200, 0)),
        Wanted(times_s=evenly(10), numbers=(5, 6, 7, 8, 9, 0, 1, 2, 3, 4), duration_s=0.4),
    ),
    Case(
        "edit lists",
        "picture 0.4 s after the sound",
        late_picture,
        Wanted(times_s=evenly(10, 0.4), numbers=tuple(range(10)), duration_s=0.8),
    ),
    Case(
        "edit lists",
        "from beyond the end",
        lambda: edited((200, 90_000 * MS)),
        Wanted(refused="unreadable_media", says=("no picture",)),
    ),
    Case(
        "a beginning that is missing",
        "no key frame for 0.52 s",
        begun_late,
        Wanted(times_s=evenly(53), numbers=(*[20] * 14, *range(21, 60)), duration_s=2.12),
    ),
    Case(
        "no length, or a false one",
        "fragmented MP4",
        lambda: write("mp4", film(10), muxer={"movflags": "frag_keyframe+empty_moov"}),
        whole,
    ),
    Case("no length, or a false one", "live Matroska", lambda: write("matroska", film(10), muxer={"live": "1"}), whole),
    Case(
        "no length, or a false one",
        "MP4 that claims a month",
        lambda: boxes.with_duration(write("mp4", film(10)), 2_592_000_000),
        whole,
    ),
]

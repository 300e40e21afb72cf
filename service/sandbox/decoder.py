"""A decoder whose work is done by a child: it hands recordings over, and checks all that comes back."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.inputs.container import MediaError, MediaErrorCode, MediaLimits, Source, Tick, no_tick
from models.inputs.media import Frame, MediaInfo
from service.piece_reader import PieceReader
from service.sandbox.process import STALLED_S, Cause, Child, ChildSpent, SandboxLost
from service.sandbox.replies import AnyReply, Done, Facts, Failed, FrameLies, NoSound, Refused, Reply, SamplesLie
from service.sandbox.ring import SLOTS

WHY: Final[dict[Cause, tuple[MediaErrorCode, str]]] = {
    "crashed": (
        "unreadable_media",
        "the decoder crashed on the recording: it is damaged; convert it and send it again",
    ),
    "killed": ("unreadable_media", "the decoder was stopped by the system; send the recording in a smaller form"),
    "memory": (
        "unreadable_media",
        "decoding the recording needs more than the {memory_bytes} bytes of memory that are allowed; send it smaller",
    ),
    "cpu": (
        "too_long",
        "decoding took more than {cpu_s} s of processor time, all that this request has for it; send the recording "
        "in parts, or give the request more time",
    ),
    "stalled": (
        "too_long",
        f"the decoder got no further with the recording for {STALLED_S:g} s; convert it and send it again",
    ),
    "failed": ("unreadable_media", "the recording cannot be decoded; convert it and send it again"),
    "garbled": ("unreadable_media", "the recording cannot be decoded; convert it and send it again"),
}

MAX_SAMPLE: Final = 16.0
"""Resampling may overshoot full scale, but never by so much."""

R = TypeVar("R", bound=Reply)


class Allowance(NamedTuple):
    """What a child may use."""

    cpu_s: int
    memory_bytes: int


class SandboxedDecoder:
    """A `models.inputs.decoder.Decoder` for one request. `spent` says why the child can do no more, if so.

    Every method raises MediaError, also where the child crashes, hangs, or answers what it must not; and SandboxLost.
    """

    def __init__(self, child: Child, allowance: Allowance, report: Callable[[str], None]) -> None:
        self.child = child
        self.allowance = allowance
        self.report = report
        self.spent: Cause | None = None
        self.owed = 0
        """Frames that are still to come; other orders have to wait for them."""

    def probe(self, source: Source, limits: MediaLimits, *, tick: Tick = no_tick) -> MediaInfo:
        self.order("probe", source, limits)
        facts = self.expect(self.answer(tick), Facts)
        sized = facts.width is not None and facts.height is not None
        fits = (
            facts.duration_s <= limits.max_duration_s and (facts.width or 0) * (facts.height or 0) <= limits.max_pixels
        )
        if not fits or sized != facts.has_video:
            raise self.refusal("garbled")
        return MediaInfo(**facts.model_dump(exclude={"kind"}))

    def frames_at(
        self, source: Source, times_s: Sequence[float], limits: MediaLimits, *, tick: Tick = no_tick
    ) -> Iterator[Frame]:
        if len(times_s) == 0:
            return
        self.lay_down(np.asarray(times_s, np.float64))
        self.order("frames", source, limits, times=len(times_s))
        yield from self.frames(len(times_s), limits, tick)

    def decode_picture(self, data: bytes, limits: MediaLimits) -> NDArray[np.uint8]:
        self.order("picture", data, limits)
        (frame,) = self.frames(1, limits, no_tick)
        return frame.rgb

    def read_sound(
        self,
        source: Source,
        rate_hz: int,
        limits: MediaLimits,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        tick: Tick = no_tick,
    ) -> NDArray[np.float32] | None:
        self.order("sound", source, limits, rate_hz=rate_hz, start_s=start_s, end_s=end_s)
        last_s = limits.max_duration_s if end_s is None else min(end_s, limits.max_duration_s)
        left = max(0, round((last_s - start_s) * rate_hz))
        parts = [np.zeros(0, np.float32)]
        while not isinstance(reply := self.answer(tick), Done):
            if isinstance(reply, NoSound):
                return None
            count = self.expect(reply, SamplesLie).count
            if count > left or 4 * count > self.child.ring.slot_bytes:
                raise self.refusal("garbled")
            part = self.child.ring.read(self.child.slot(), count, np.float32)
            if not (np.abs(part) <= MAX_SAMPLE).all():  # which no NaN passes
                raise self.refusal("garbled")
            parts.append(part)
            left -= count
            self.emptied()
        return np.concatenate(parts)

    def frames(self, left: int, limits: MediaLimits, tick: Tick) -> Iterator[Frame]:
        """So many frames, some of them several times; the last one comes when the child is done."""
        self.owed = left
        while self.owed:
            lies = self.expect(self.answer(tick), FrameLies)
            size = 3 * lies.height * lies.width
            if lies.times > self.owed or size > min(3 * limits.max_pixels, self.child.ring.slot_bytes):
                raise self.refusal("garbled")
            rgb = self.child.ring.read(self.child.slot(), size, np.uint8).reshape(lies.height, lies.width, 3)
            self.emptied()
            self.owed -= lies.times
            if not self.owed:
                self.expect(self.answer(tick), Done)
            frame = Frame(lies.time_s, rgb)
            yield from (frame for _ in range(lies.times))

    def lay_down(self, array: NDArray[np.float64]) -> None:
        if array.nbytes > SLOTS * self.child.ring.slot_bytes:
            raise MediaError("too_large", f"{len(array)} frames were asked for, more than can be; take a larger hop_s")
        self.child.ring.write(0, array)

    def order(self, do: str, source: Source, limits: MediaLimits, **details: object) -> None:
        assert not self.owed, "frames_at has to be read to its end first"
        with handed_over(source) as (descriptor, start, size):
            order = {"do": do, "start": start, "size": size, "limits": asdict(limits)} | details
            try:
                self.child.order(order, descriptor)
            except ChildSpent as spent:
                raise self.refusal(spent.cause) from None

    def answer(self, tick: Tick) -> AnyReply:
        """The next reply that is no error."""
        try:
            reply = self.child.answer(tick)
        except ChildSpent as spent:
            raise self.refusal(spent.cause) from None
        if isinstance(reply, Refused):
            raise MediaError(reply.code, reply.message)
        if isinstance(reply, Failed):
            self.report(f"a decoder failed with {reply.error} at line {reply.line}")
            raise self.refusal("memory" if reply.memory else "failed")
        return reply

    def emptied(self) -> None:
        try:
            self.child.slot_emptied()
        except ChildSpent as spent:
            raise self.refusal(spent.cause) from None

    def expect(self, reply: AnyReply, kind: type[R]) -> R:
        if not isinstance(reply, kind):
            raise self.refusal("garbled")
        return reply

    def refusal(self, cause: Cause) -> MediaError:
        """What the caller is told; the child is not asked again."""
        self.spent = cause
        code, message = WHY[cause]
        return MediaError(code, message.format(**self.allowance._asdict()))


@contextmanager
def handed_over(source: Source) -> Iterator[tuple[int, int, int]]:
    """A recording as descriptor, first byte and size: a piece of a spool, an open file, or bytes in memory."""
    if isinstance(source, bytes):
        descriptor = in_memory(source)
        try:
            yield descriptor, 0, len(source)
        finally:
            os.close(descriptor)
    elif isinstance(source, io.BufferedReader) and isinstance(source.raw, PieceReader):
        yield source.raw.descriptor, source.raw.start, source.raw.size
    else:
        yield source.fileno(), 0, os.fstat(source.fileno()).st_size


def in_memory(data: bytes) -> int:
    """A descriptor of these bytes. Raises SandboxLost where there is no memory or no descriptor left."""
    try:
        descriptor = os.memfd_create("recording", os.MFD_CLOEXEC)
    except OSError as error:
        raise SandboxLost("the service has too many files open") from error
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

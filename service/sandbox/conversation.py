"""What is said to one child and heard of it: recordings are handed over, and every answer is checked for its kind."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.container import DecoderEnded, MediaError, MediaErrorCode, MediaLimits, Source, Tick
from service.sandbox.process import STALLED_S, Cause, Child, ChildSpent, SandboxLost
from service.sandbox.replies import AnyReply, Done, Failed, Refused, Reply
from service.uploads.piece_reader import PieceReader

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

R = TypeVar("R", bound=Reply)
N = TypeVar("N", bound=np.generic)


class Allowance(NamedTuple):
    """What a child may use."""

    cpu_s: int
    memory_bytes: int


class Conversation:
    """One order at a time to one child. `spent` says why it can do no more, if so.

    Every method raises MediaError, DecoderEnded where the child crashes, hangs, or answers what it must not; and
    SandboxLost.
    """

    def __init__(self, child: Child, allowance: Allowance, report: Callable[[str], None]) -> None:
        self.child = child
        self.allowance = allowance
        self.report = report
        self.spent: Cause | None = None
        self.busy = False
        """Whether an order is being carried out; the next one has to wait for its end, or go to another child."""

    def order(self, do: str, source: Source, limits: MediaLimits, **details: object) -> None:
        with handed_over(source) as (descriptor, start, size):
            order = {"do": do, "start": start, "size": size, "limits": asdict(limits)} | details
            try:
                self.child.order(order, descriptor)
            except ChildSpent as spent:
                raise self.refusal(spent.cause) from None
        self.busy = True

    def answer(self, tick: Tick) -> AnyReply:
        """The next reply that is no error."""
        try:
            reply = self.child.answer(tick)
        except ChildSpent as spent:
            raise self.refusal(spent.cause) from None
        if isinstance(reply, Refused):
            self.busy = False
            raise MediaError(reply.code, reply.message)
        if isinstance(reply, Failed):
            if not reply.memory:  # that a file may cause at will
                self.report(f"a decoder failed with {reply.error} at line {reply.line}")
            raise self.refusal("memory" if reply.memory else "failed")
        return reply

    def expect(self, reply: AnyReply, kind: type[R]) -> R:
        if not isinstance(reply, kind):
            raise self.refusal("garbled")
        return reply

    def done(self, tick: Tick) -> None:
        """All that was ordered has come, so the child must say so."""
        self.expect(self.answer(tick), Done)
        self.busy = False

    def take(self, count: int, dtype: type[N]) -> NDArray[N]:
        """So many numbers out of the next slot, which the child may fill again."""
        taken = self.child.ring.read(self.child.slot(), count, dtype)
        try:
            self.child.slot_emptied()
        except ChildSpent as spent:
            raise self.refusal(spent.cause) from None
        return taken

    def refusal(self, cause: Cause) -> DecoderEnded:
        """What the caller is told; the child is not asked again."""
        self.spent = cause
        code, message = WHY[cause]
        return DecoderEnded(code, message.format(**self.allowance._asdict()))


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

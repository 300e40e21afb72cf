"""The child: it reads one caller's recordings, and hands back pixels, samples and a few numbers."""

import fcntl
import io
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.inputs.media import media
from models.inputs.media.media import MediaError, MediaLimits
from service.sandbox import attempts, layers, wire
from service.sandbox.ring import SLOTS, Ring
from service.uploads.piece_reader import PieceReader

T = TypeVar("T", bound=np.generic)

CONTROL, NULL, ERRORS, MEMORY = range(4)
MOST_OF_A_ZYGOTE: Final = 64
"""Beyond any descriptor that a zygote holds."""
READ_AHEAD_BYTES: Final = 1 << 16
MAX_WORDS: Final = 500
SOUND_PART_S: Final = 1
"""Sound is handed back a second at a time; codecs give it in parts of some milliseconds."""


class Order(NamedTuple):
    """How a child is to be forked."""

    layers: list[str]
    cpu_s: int
    memory_bytes: int
    slot_bytes: int


class ParentGone(Exception):
    """Nobody is left to work for."""


class Link:
    """The child's end: takes orders, and fills slots no faster than the parent empties them."""

    def __init__(self, control: socket.socket, ring: Ring) -> None:
        self.control = control
        self.ring = ring
        self.sent = self.taken = 0

    def order(self) -> tuple[dict[str, Any], int] | None:
        """The next order and the descriptor that came with it; None where there will be no more."""
        received = wire.receive(self.control, 1)
        if received is None:
            return None
        self.sent = self.taken = 0
        order, (descriptor,) = received
        return order, descriptor

    def say(self, kind: str, **fields: object) -> None:
        wire.send(self.control, {"kind": kind} | fields)

    def tick(self) -> None:
        self.ring.advance()

    def deliver(self, kind: str, array: NDArray[np.generic], **fields: object) -> None:
        """Put an array in the next slot, and say so."""
        if self.sent - self.taken == SLOTS:
            if self.control.recv(1) != wire.TAKEN:
                raise ParentGone
            self.taken += 1
        self.ring.write(self.sent % SLOTS, array)
        self.sent += 1
        self.say(kind, **fields)

    def given(self, count: int, dtype: type[T]) -> NDArray[T]:
        """Numbers that the parent laid into the slots with its order."""
        return self.ring.read(0, count, dtype)


def run(order: Order, descriptors: list[int], parent: int, work: Callable[[Link], None]) -> None:
    """From the fork on: keep nothing of the zygote's, lay on the layers, work."""
    if not layers.die_with(parent):
        return
    control, memory = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, MEMORY + 1) for descriptor in descriptors)
    os.dup2(control, CONTROL)
    os.dup2(memory, MEMORY)
    os.closerange(MEMORY + 1, MOST_OF_A_ZYGOTE)
    os.dup2(NULL, ERRORS)  # what FFmpeg prints may be the recording's own words
    ring = Ring(MEMORY, order.slot_bytes)  # which keeps a descriptor of its own
    os.close(MEMORY)
    link = Link(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, CONTROL), ring)
    holding = layers.enter_child(order.layers, cpu_s=order.cpu_s, memory_bytes=order.memory_bytes)
    link.say("ready", layers=holding)
    work(link)


def work(link: Link) -> None:
    """Do what is asked until the parent goes."""
    while (received := link.order()) is not None:
        order, descriptor = received
        try:
            DOES[order["do"]](link, order, descriptor)
        except ParentGone:
            return
        except Exception as error:
            link.say(**reply_to(error))
        finally:
            os.close(descriptor)


def reply_to(error: Exception) -> dict[str, Any]:
    """What the parent is told: the reason of a refusal; of anything else, a bug of ours, only where it was raised."""
    if isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError):
        return {"kind": "failed", "memory": True, "error": "MemoryError", "line": 0}
    if isinstance(error, MediaError):
        return {"kind": "refused", "code": error.code, "message": str(error)[:MAX_WORDS]}
    return {"kind": "failed", "memory": False, "error": type(error).__name__, "line": line_of(error)}


def line_of(error: Exception) -> int:
    """Where it was raised. Its message stays here: it may hold the recording's own words."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_lineno if traceback is not None else 0


def source_of(order: dict[str, Any], descriptor: int) -> io.BufferedReader:
    return io.BufferedReader(PieceReader(descriptor, order["start"], order["size"]), READ_AHEAD_BYTES)


def probe(link: Link, order: dict[str, Any], descriptor: int) -> None:
    facts = media.probe(source_of(order, descriptor), MediaLimits(**order["limits"]), tick=link.tick)
    link.say("facts", **asdict(facts))


def frames(link: Link, order: dict[str, Any], descriptor: int) -> None:
    times_s = link.given(order["times"], np.float64).tolist()
    shown = media.frames_at(source_of(order, descriptor), times_s, MediaLimits(**order["limits"]), tick=link.tick)
    for count, frame in counted(shown):
        height, width, _ = frame.rgb.shape
        facts = {"time_s": frame.time_s, "height": height, "width": width, "stretch": frame.stretch, "times": count}
        link.deliver("frame", frame.rgb, **facts)
    link.say("done")


def counted(frames: Iterator[media.Frame]) -> Iterator[tuple[int, media.Frame]]:
    """Each frame once, with the number of times that it answers."""
    for _, same in groupby(frames, key=lambda frame: frame.time_s):
        first, *others = same
        yield 1 + len(others), first


def picture(link: Link, order: dict[str, Any], descriptor: int) -> None:
    rgb = media.decode_picture(source_of(order, descriptor), MediaLimits(**order["limits"]))
    link.tick()
    link.deliver("frame", rgb, time_s=0.0, height=rgb.shape[0], width=rgb.shape[1], times=1)
    link.say("done")


def sound(link: Link, order: dict[str, Any], descriptor: int) -> None:
    pieces = media.sound_pieces(
        source_of(order, descriptor),
        order["rate_hz"],
        MediaLimits(**order["limits"]),
        start_s=order["start_s"],
        end_s=order["end_s"],
        tick=link.tick,
    )
    for part in gathered(pieces, min(SOUND_PART_S * order["rate_hz"], link.ring.slot_bytes // 4)):
        link.deliver("samples", part, count=len(part))
    link.say("done")


def gathered(pieces: Iterator[NDArray[np.float32]], count: int) -> Iterator[NDArray[np.float32]]:
    """The same samples, so many at a time; the last part may be shorter."""
    waiting = np.zeros(0, np.float32)
    for piece in pieces:
        waiting = np.concatenate([waiting, piece])
        while len(waiting) >= count:
            yield waiting[:count]
            waiting = waiting[count:]
    if len(waiting):
        yield waiting


def tries(link: Link, order: dict[str, Any], descriptor: int) -> None:  # noqa: ARG001 - nothing is read
    link.say("tried", stopped_by=attempts.try_everything())


DOES: Final[dict[str, Callable[[Link, dict[str, Any], int], None]]] = {
    "probe": probe,
    "frames": frames,
    "picture": picture,
    "sound": sound,
    "try": tries,
}

"""The parent's handles: the zygote, and each child of it from its fork to its end."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import pydantic

from service.sandbox import wire
from service.sandbox.child import Order
from service.sandbox.replies import REPLY, AnyReply, Ready
from service.sandbox.ring import SLOTS, Ring

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-s", "-P", "-m", "service.sandbox.zygote")
"""`-s` and `-P`: neither the user's packages nor the current folder are looked at."""
LOADER: Final = "LD_LIBRARY_PATH"
MEMORY_IN_LARGE_PIECES: Final = (
    "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=8388608:"
    "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824"
)
"""Asked for in large pages, and kept for the next frame: a child lives too briefly to earn back the faults of 4 kB
pages. Its end gives all of it back."""
START_S: Final = 60.0
ANSWER_S: Final = 20.0
"""For a fork or an end, which take milliseconds."""
POLL_MS: Final = 50
STALLED_S: Final = 15.0
"""For one packet, or for opening a file, which take milliseconds."""

Cause = Literal["crashed", "killed", "cpu", "memory", "stalled", "failed", "garbled"]
"""Why a child is of no use any more."""
CAUSES: Final[dict[int, Cause]] = {signal.SIGXCPU: "cpu", signal.SIGKILL: "killed"}
"""By the signal that ended it; any other is a crash."""


class ZygoteLost(Exception):
    """The zygote, and with it every child, has died or hangs."""


class CannotFork(Exception):
    """The system gives no further process."""


class SandboxLost(Exception):
    """No recording can be decoded just now, through no fault of its own."""


class ChildSpent(Exception):
    """The child cannot go on; the cause says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause: Cause = cause


class Zygote:
    """A running zygote. May be called from any thread. Raises ZygoteLost where it does not come up."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self.lock = threading.Lock()
        self.lost = False
        ours, theirs = wire.pair()
        ours.settimeout(START_S)
        self.control = ours
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the service alone
            )
        try:
            started = self.ask({}, begin=True)
        except ZygoteLost:
            self.close()
            raise
        ours.settimeout(ANSWER_S)
        self.threads: int = started["threads"]
        self.layers: list[str] = started["layers"]

    def ask(self, order: dict[str, Any], descriptors: Sequence[int] = (), *, begin: bool = False) -> dict[str, Any]:
        """The zygote's answer to an order, or the word that it has begun. Raises ZygoteLost."""
        with self.lock:
            if not begin:
                self.tell(order, descriptors)
            try:
                received = wire.receive(self.control, 0)
                if received is None:
                    raise ConnectionError
            except OSError as error:
                self.lost = True
                raise ZygoteLost from error
        return received[0]

    def tell(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send an order, while the lock is held. Raises ZygoteLost."""
        try:
            if self.lost:
                raise ConnectionError
            wire.send(self.control, order, descriptors)
        except OSError as error:
            self.lost = True
            raise ZygoteLost from error

    def fork(self, order: Order) -> "Child":
        """A child that waits for orders. Raises ZygoteLost, CannotFork and OSError."""
        ring, memory = Ring.create(order.slot_bytes)
        with contextlib.ExitStack() as undo:
            undo.callback(ring.close)
            try:
                ours, theirs = wire.pair()
                undo.callback(ours.close)
                with theirs:
                    answer = self.ask(order._asdict(), [theirs.fileno(), memory])
            finally:
                os.close(memory)
            if "pid" not in answer:
                raise CannotFork(os.strerror(answer["errno"]))
            undo.pop_all()
        return Child(self, answer["pid"], ours, ring)

    def end(self, pid: int) -> int:
        """Kill a child, and return its wait status. Raises ZygoteLost."""
        return int(self.ask({"end": pid})["status"])

    def bound(self, pid: int, cpu_s: int) -> bool:
        """Bound a child's seconds of processor time; whether that could be done. Raises ZygoteLost."""
        return bool(self.ask({"bound": pid, "cpu_s": cpu_s})["holds"])

    def drop(self, pid: int) -> None:
        """Have a child killed, and leave it to the zygote to see its end. Raises ZygoteLost."""
        with self.lock:
            self.tell({"drop": pid})

    def close(self) -> None:
        """End the zygote, and with it all that is left of its children."""
        hangs, self.lost = self.lost, True
        if hangs:
            self.process.kill()
        with self.lock:  # nobody waits at a descriptor whose number may soon be another's
            self.control.close()
        try:
            self.process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Child:
    """One child. Not to be shared by threads; to be ended always."""

    def __init__(self, zygote: Zygote, pid: int, control: socket.socket, ring: Ring) -> None:
        self.zygote = zygote
        self.pid = pid
        self.control = control
        self.ring = ring
        self.readable = select.poll()
        self.readable.register(control, select.POLLIN)
        self.emptied = 0
        self.status: int | None = None

    def ready(self) -> Ready:
        """Wait until the layers lie. Raises ChildSpent."""
        reply = self.answer(lambda: None)
        if not isinstance(reply, Ready):
            raise ChildSpent("garbled")
        return reply

    def bound(self, cpu_s: int) -> bool:
        """Bound its seconds of processor time; whether that could be done. Raises ZygoteLost."""
        return self.zygote.bound(self.pid, cpu_s)

    def silent(self) -> bool:
        """Whether it lives, and has said nothing that was not heard yet."""
        return not self.readable.poll(0)

    def order(self, order: dict[str, Any], descriptor: int) -> None:
        """Give an order, with what it is about. Raises ChildSpent."""
        self.emptied = 0
        try:
            wire.send(self.control, order, [descriptor], flags=socket.MSG_DONTWAIT)
        except OSError:
            raise ChildSpent(self.cause_of_death()) from None

    def answer(self, tick: Callable[[], None]) -> AnyReply:
        """The next reply; `tick` is called while it is awaited, and may raise. Raises ChildSpent."""
        progress, since_s = self.ring.progress, time.monotonic()
        while not self.readable.poll(POLL_MS):
            asked_s = time.monotonic()
            tick()
            since_s += time.monotonic() - asked_s  # who waits there keeps nobody waiting but the child
            if progress != (progress := self.ring.progress):
                since_s = time.monotonic()
            elif time.monotonic() - since_s > STALLED_S:
                raise ChildSpent("stalled")
        tick()
        try:
            data = self.control.recv(wire.MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            data = b""
        if not data:
            raise ChildSpent(self.cause_of_death())
        try:
            return REPLY.validate_json(data)
        except pydantic.ValidationError:
            raise ChildSpent("garbled") from None

    def slot(self) -> int:
        """The slot that the next piece lies in."""
        return self.emptied % SLOTS

    def slot_emptied(self) -> None:
        """Let the child fill the slot again. Raises ChildSpent."""
        self.emptied += 1
        # one that has gone may still have left messages; one that does not read has its buffer full
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                self.control.send(wire.TAKEN, socket.MSG_DONTWAIT)
            except BlockingIOError:
                raise ChildSpent("garbled") from None

    def cause_of_death(self) -> Cause:
        """How it ended by itself; ends it if it has only fallen silent. Raises ZygoteLost."""
        if self.status is None:
            self.status = self.zygote.end(self.pid)
        if os.WIFEXITED(self.status):
            return "failed"
        return CAUSES.get(os.WTERMSIG(self.status), "crashed")

    def close(self) -> None:
        """Kill it, whatever it does, and give its memory back."""
        if self.status is None:
            with contextlib.suppress(ZygoteLost):  # then it has died with it
                self.zygote.drop(self.pid)
        self.control.close()
        self.ring.close()


def environment() -> dict[str, str]:
    """Where the code lies, and nothing of the service's own environment but the place of libraries."""
    variables = {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "GLIBC_TUNABLES": MEMORY_IN_LARGE_PIECES,
    }
    return variables | {name: os.environ[name] for name in (LOADER,) if name in os.environ}

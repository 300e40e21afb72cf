"""The sandbox as the service uses it: proven when it starts, and a decoder of its own for each request."""

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from models.inputs.media import media
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaError
from service.sandbox.child import Order
from service.sandbox.conversation import Allowance, Conversation
from service.sandbox.decoder import SandboxedDecoder
from service.sandbox.landlock import landlock_abi
from service.sandbox.layers import CHILD_LAYERS, LAYERS, ZYGOTE_LAYERS
from service.sandbox.process import COMMAND, CannotFork, Child, ChildSpent, SandboxLost, Zygote, ZygoteLost
from service.sandbox.replies import Tried
from service.sandbox.ring import slot_bytes_for
from service.sandbox.spare import Spare

SandboxMode = Literal["require", "auto", "off"]

NEVER: Final = ("open", "socket", "fork")
"""What no child may be able to do."""
PROOFS: Final[dict[str, dict[str, str]]] = {
    "rlimits": {"open": "EMFILE"},
    "landlock": {"open": "EACCES"},
    "seccomp": {"open": "EPERM", "socket": "EPERM", "fork": "EPERM"},
}
"""Layer → the errors that a child gets which has this layer alone."""
TRIAL: Final = Allowance(cpu_s=5, memory_bytes=256 << 20)
MOST_CPU_S: Final = 86_400
"""Of a child that nobody has asked anything yet."""
CPU_SHARE: Final = 0.8
"""Of the time that a request has left; the rest is for the faces and the device."""

logger = logging.getLogger("pkdot.sandbox")


class SandboxError(Exception):
    """The sandbox that was asked for cannot be had here; the message says what is missing."""


class Sandbox:
    """Forks decoders; starts another zygote should one die. May be used from any thread.

    `on_exit` is told how each decoder ended: "ok", "refused" (the recording was), "cancelled" (the request was), "lost"
    (the zygote died), or one of `process.Cause`. Raises SandboxError where no child can be had at all.
    """

    def __init__(
        self,
        *,
        max_pixels: int,
        memory_bytes: int,
        on_exit: Callable[[str], None] = lambda _: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.slot_bytes = slot_bytes_for(max_pixels)
        self.memory_bytes = memory_bytes
        self.on_exit = on_exit
        self.command = command
        self.lock = threading.Lock()
        try:
            self.zygote = Zygote(command)
        except (ZygoteLost, OSError) as error:
            raise SandboxError("the process that forks decoders does not start; its own words are above") from error
        try:
            self.layers, self.possible = self.prove()
        except BaseException:
            self.zygote.close()
            raise
        self.spare = Spare(self.fork)

    def prove(self) -> tuple[dict[str, bool], tuple[str, ...]]:
        """Try each layer alone, then all together: which of LAYERS hold, and which of NEVER is possible nevertheless.

        Raises SandboxError.
        """
        if self.zygote.threads != 1:
            raise SandboxError(f"the process that forks decoders has {self.zygote.threads} threads; expected one")
        try:
            holding = {layer for layer, proof in PROOFS.items() if self.stopped_by([layer]).items() >= proof.items()}
            stopped_by = self.stopped_by(CHILD_LAYERS)
        except (ZygoteLost, ChildSpent, CannotFork, OSError) as error:
            raise SandboxError(f"a decoder cannot be forked and tried: {error!r}") from error
        holding |= set(self.zygote.layers)
        possible = tuple(name for name in NEVER if not stopped_by[name])
        return {layer: layer in holding for layer in LAYERS}, possible

    def stopped_by(self, layers: Sequence[str]) -> dict[str, str]:
        """What stops the attempts of a child with these layers."""
        child = self.zygote.fork(Order(list(layers), *TRIAL, self.slot_bytes))
        try:
            child.ready()
            nothing = os.memfd_create("nothing")
            try:
                child.order({"do": "try"}, nothing)
            finally:
                os.close(nothing)
            tried = child.answer(lambda: None)
        finally:
            child.close()
        if not isinstance(tried, Tried):
            raise ChildSpent("garbled")
        return tried.stopped_by

    @contextlib.contextmanager
    def decoder(self, left_s: float) -> Iterator[Decoder]:
        """A decoder in children of its own, which are killed at the end; for a request that has `left_s` left.

        Raises SandboxLost.
        """
        allowance = Allowance(max(1, math.ceil(CPU_SHARE * left_s)), self.memory_bytes)
        with contextlib.ExitStack() as ends:
            ends.callback(self.spare.prepare)  # last: until then the processor is the request's

            def begin() -> Conversation:
                child = self.child(allowance.cpu_s)
                ends.callback(child.close)
                return Conversation(child, allowance, logger.error)

            decoder = SandboxedDecoder(begin)
            ended = "cancelled"
            try:
                yield decoder
                ended = "ok"
            except MediaError:
                ended = decoder.spent or "refused"
                raise
            except ZygoteLost as error:
                ended = "lost"
                raise SandboxLost("the process that decodes was lost") from error
            finally:
                self.on_exit(ended)

    def child(self, cpu_s: int) -> Child:
        """A child that has `cpu_s` of processor time: the one that waits, where it is well. Raises SandboxLost."""
        waited = self.spare.take()
        with contextlib.suppress(ZygoteLost):  # it is about to die with its zygote
            if waited is not None:
                return self.bounded(waited, cpu_s)
        try:
            return self.bounded(self.fork(), cpu_s)
        except ZygoteLost as error:
            raise SandboxLost("the process that decodes was lost") from error

    def bounded(self, child: Child, cpu_s: int) -> Child:
        """The child with its processor time lowered, or its end. Raises ZygoteLost and SandboxLost."""
        try:
            if not child.bound(cpu_s) and self.layers["rlimits"]:
                raise SandboxLost("a decoder could not be confined as others were")
        except BaseException:
            child.close()
            raise
        return child

    def fork(self) -> Child:
        """A child with every layer that held when it was proven. Raises SandboxLost."""
        order = Order(
            [layer for layer in CHILD_LAYERS if self.layers[layer]], MOST_CPU_S, self.memory_bytes, self.slot_bytes
        )
        try:
            child = self.fork_from_a_living_one(order)
        except (ZygoteLost, CannotFork, OSError) as error:
            raise SandboxLost("no process to decode in can be had") from error
        try:
            if child.ready().layers != order.layers:
                raise SandboxLost("a decoder could not be confined as others were")
        except (ChildSpent, ZygoteLost) as error:
            child.close()
            raise SandboxLost("the process that decodes was lost") from error
        except BaseException:
            child.close()
            raise
        return child

    def fork_from_a_living_one(self, order: Order) -> Child:
        """That a zygote has died may show only here; then the next one is asked."""
        with contextlib.suppress(ZygoteLost):
            return self.living_zygote().fork(order)
        return self.living_zygote().fork(order)

    def living_zygote(self) -> Zygote:
        """The zygote, or a new one that gave up as much. Raises ZygoteLost and OSError."""
        with self.lock:
            if self.zygote.lost:
                logger.error("the process that forks decoders was lost; another is started")
                self.zygote.close()
                self.zygote = Zygote(self.command)
                if not {layer for layer in ZYGOTE_LAYERS if self.layers[layer]} <= set(self.zygote.layers):
                    self.zygote.close()
                    raise ZygoteLost
            return self.zygote

    def close(self) -> None:
        """End the zygote and all that is left of its children."""
        self.spare.close()
        self.zygote.close()


def start_sandbox(
    mode: SandboxMode, *, max_pixels: int, memory_bytes: int, on_exit: Callable[[str], None]
) -> Sandbox | None:
    """The sandbox as `mode` wants it: None for `off`, and for `auto` where there can be none.

    Raises SandboxError where `require` does not get limits, no_new_privs, and Landlock or seccomp.
    """
    if mode == "off":
        return None
    try:
        sandbox = Sandbox(max_pixels=max_pixels, memory_bytes=memory_bytes, on_exit=on_exit)
    except SandboxError as error:
        if mode == "require":
            raise
        logger.warning("recordings are decoded without a sandbox: %s", error)
        return None
    lacking = missing(sandbox)
    if lacking and mode == "require":
        sandbox.close()
        raise SandboxError(
            f"PKDOT_SANDBOX=require, but this system lacks {lacking}; run on a kernel and in a container that have it, "
            "or accept less with PKDOT_SANDBOX=auto"
        )
    if lacking:
        logger.warning("the sandbox is not whole: this system lacks %s", lacking)
    return sandbox


def missing(sandbox: Sandbox) -> str:
    """What `require` needs and is not there, in words; "" if nothing."""
    lacking = [layer for layer in ("rlimits", "no_new_privs") if not sandbox.layers[layer]]
    if not (sandbox.layers["landlock"] or sandbox.layers["seccomp"]):
        lacking.append("landlock or seccomp")
    lacking += [f"what keeps a decoder from `{name}`" for name in sandbox.possible]
    return ", ".join(lacking)


def describe(sandbox: Sandbox | None) -> str:
    """The layers in one line, for the start of the service.

    >>> describe(None)
    'sandbox: off'
    """
    if sandbox is None:
        return "sandbox: off"
    states = {layer: "yes" if holds else "no" for layer, holds in sandbox.layers.items()}
    if sandbox.layers["landlock"]:
        states["landlock"] = str(landlock_abi())
    return "sandbox: " + " ".join(f"{layer}={state}" for layer, state in states.items())


@contextlib.contextmanager
def in_process(left_s: float) -> Iterator[Decoder]:  # noqa: ARG001 - as `Sandbox.decoder`
    """A decoder without a sandbox."""
    yield media

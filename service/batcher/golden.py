"""Whether every device still computes what it has computed before."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, Self

from service.batcher.batcher import Batcher
from service.runtime.cancellation import Cancellation
from service.runtime.device import Array, BuildItem, Runner, Tell, Tensors
from service.runtime.warm_up import WarmUp


class Provable(Runner, Protocol):
    """A runner that can run unnoticed."""

    def prove(self, inputs: Tensors, cancel: Cancellation | None = None) -> Array:
        """`run`, of which nobody is told."""


@dataclass(frozen=True)
class Proof:
    """A runner for the batcher whose runs are all unnoticed: no window that a user sent is in them."""

    runner: Provable

    @property
    def key(self) -> str:
        return self.runner.key

    @property
    def warm_up(self) -> WarmUp:
        return self.runner.warm_up

    def on_device(self, device: int, *, alone: bool = False) -> Self:
        return type(self)(self.runner.on_device(device, alone=alone))

    def run(self, inputs: Tensors, cancel: Cancellation | None = None, tell: Tell | None = None) -> Array:  # noqa: ARG002 - as Runner's
        return self.runner.prove(inputs, cancel)


async def run_everywhere(batcher: Batcher, runner: Provable, golden: BuildItem, *, deadline_s: float) -> None:
    """Compute the golden input on each device, where it comes before all that waits; returns when all have done it.

    `deadline_s` is on the batcher's clock. Raises what `Batcher.run` does, as soon as it fails on one device.
    """
    answers = []
    with ExitStack() as stack:
        for device in batcher.threads:
            request = batcher.submit(Proof(runner), [golden], deadline_s=deadline_s, device=device)
            stack.callback(batcher.leave, request)
            answers.append(request.answer)
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_EXCEPTION)
        for answer in done:
            answer.result()

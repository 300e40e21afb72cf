"""A runner, a clock and the scenes in which a batcher is tried."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.batcher.batcher import (
    BatchAnswer,
    Batcher,
)
from service.runtime.cancellation import Cancellation, RunCancelled
from service.runtime.warm_up import BatchTime, WarmUp

BAD = -1.0


HANG_S = 60.0
"""A test that takes longer hangs."""


def useful(batch: int, slowest_batch_s: float = 0.0, seconds_per_item: float = 1e-6) -> WarmUp:
    """Of a graph whose batches gain by their size up to `batch`, and nothing beyond."""
    whole_s = batch * seconds_per_item
    return WarmUp(slowest_batch_s, tuple(BatchTime(n, whole_s) for n in sorted({1, batch})))


@dataclass
class Doubler:
    """Gives twice its input; a batch with BAD in it fails. Each run waits for `go`, while that is cleared."""

    key: str = "doubler"
    warm_up: WarmUp = field(default_factory=lambda: useful(8))
    batches: list[list[float]] = field(default_factory=list)
    devices: list[int] = field(default_factory=list)
    """Of each batch."""
    alone: list[bool] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def on_device(self, device: int, *, alone: bool = False) -> "Doubler":
        self.devices.append(device)
        self.alone.append(alone)
        return self

    def run(
        self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None, *_: object
    ) -> NDArray[np.generic]:
        self.batches.append(inputs["x"][:, 0].tolist())
        self.entered.set()
        end_s = time.monotonic() + HANG_S
        while not self.go.wait(0.001):
            assert time.monotonic() < end_s
            if cancel is not None and cancel.asked:
                raise RunCancelled
        if (inputs["x"] == BAD).any():
            raise RuntimeError("BAD")
        return inputs["x"] * np.float32(2)

    def prove(
        self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None
    ) -> NDArray[np.generic]:
        return self.run(inputs, cancel)

    async def hold(self, batcher: Batcher, value: float = 0.0) -> "asyncio.Task[BatchAnswer]":
        """Occupy the device with one item until `go` is set."""
        self.go.clear()
        self.entered.clear()
        task = asyncio.create_task(batcher.run(self, [item(value)], deadline_s=math.inf))
        await until(self.entered.is_set)
        return task


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def item(value: float) -> Callable[[], Mapping[str, NDArray[np.generic]]]:
    return lambda: {"x": np.array([value], np.float32)}


def broken() -> Mapping[str, NDArray[np.generic]]:
    raise OSError("cannot be built")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(batcher: Batcher) -> AsyncIterator[Batcher]:
    await batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close(timeout_s=5)


def ask(batcher: Batcher, runner: Doubler, *values: float, deadline_s: float = math.inf) -> "asyncio.Task[BatchAnswer]":
    return asyncio.create_task(batcher.run(runner, [item(value) for value in values], deadline_s=deadline_s))


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene to its end; one that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(HANG_S):
            await scene()

    asyncio.run(limited())


def is_clean(batcher: Batcher) -> bool:
    """Nothing is left of any request."""
    return not batcher.turns and batcher.queue_items == 0 and batcher.in_hand == [] and not batcher.requests

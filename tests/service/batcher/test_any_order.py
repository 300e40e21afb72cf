"""Whatever happens at whatever moment, nothing hangs, is lost or stays."""

import asyncio
import math
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.batcher.batcher import (
    BatchAnswer,
    Batcher,
    BatchInterrupted,
    BatchItemFailed,
    DeadlineExceeded,
)
from service.runtime.cancellation import Cancellation

from .scenes import BAD, HANG_S, Doubler, ask, is_clean, item, play, running, until, useful


@settings(max_examples=25)
@given(cancel_at=st.integers(0, 30), close_at=st.integers(0, 30), late=st.booleans())
def test_cancelling_a_request_or_the_closing_at_any_step_of_the_loop_leaves_nothing(cancel_at, close_at, late):
    async def scene() -> None:
        batcher = Batcher(lanes=(0, 0))
        await batcher.start()
        lanes = [*batcher.lanes]
        runner.go.clear()
        deadline_s = time.monotonic() + (0.001 if late else 100)
        tasks = [ask(batcher, runner, *range(3), deadline_s=deadline_s) for _ in range(3)]
        closing = None
        for step in range(31):
            if step == cancel_at:
                tasks[1].cancel()
            if step == close_at:
                closing = asyncio.create_task(batcher.close())
            if step == close_at + 3:
                closing.cancel()
            if step == 15:
                runner.go.set()
            await asyncio.sleep(0)
        assert closing is not None
        await asyncio.wait([closing, *tasks])
        for task in tasks:
            if not task.cancelled():
                assert isinstance(task.exception(), BatchInterrupted | DeadlineExceeded | None)
                assert task.exception() or task.result().output[:, 0].tolist() == [0, 2, 4]
        await batcher.close()
        assert is_clean(batcher)
        for lane in lanes:
            lane.thread.join(HANG_S)
            assert not lane.thread.is_alive()

    runner = Doubler(warm_up=useful(2))
    play(scene)


@dataclass(frozen=True)
class Visitor:
    """A request, and when its client leaves or its time is over."""

    runner: int
    values: tuple[float, ...]
    arrives_s: float
    leaves_s: float
    deadline_s: float


SHORT_S = st.floats(0, 0.01)


VISITORS = st.builds(
    Visitor,
    runner=st.integers(0, 1),
    values=st.lists(st.sampled_from([BAD, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), min_size=1, max_size=12).map(tuple),
    arrives_s=SHORT_S,
    leaves_s=st.one_of(st.just(math.inf), SHORT_S),
    deadline_s=st.one_of(st.just(math.inf), SHORT_S),
)


class FailsOnce:
    """The real clock, which fails where the batcher's own steps read it, once for each time it is told to."""

    fail_next = False

    def __call__(self) -> float:
        on_loop = threading.current_thread() is threading.main_thread() and asyncio.current_task() is None
        if self.fail_next and on_loop:
            self.fail_next = False
            raise ArithmeticError("the clock is broken")
        return time.monotonic()


class Hasty(Doubler):
    """Takes a random moment, so that cancellations meet every state."""

    def run(
        self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None, *_: object
    ) -> NDArray[np.generic]:
        time.sleep(random.random() * 0.001)
        return super().run(inputs, cancel)


@settings(max_examples=60)
@given(
    visitors=st.lists(VISITORS, min_size=1, max_size=20),
    deaths=st.lists(SHORT_S, max_size=2),
    lanes=st.sampled_from([(0,), (0, 0), (0, 1)]),
)
def test_whoever_comes_and_leaves_nothing_hangs_is_lost_or_stays(visitors, deaths, lanes):
    clock = FailsOnce()

    async def visit(batcher: Batcher, runners: list[Hasty], visitor: Visitor) -> object:
        await asyncio.sleep(visitor.arrives_s)
        items = [item(value) for value in visitor.values]
        deadline_s = time.monotonic() + visitor.deadline_s
        task = asyncio.create_task(batcher.run(runners[visitor.runner], items, deadline_s=deadline_s))
        await asyncio.wait([task], timeout=None if visitor.leaves_s == math.inf else visitor.leaves_s)
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.exception() or task.result()

    async def die(after_s: float) -> None:
        await asyncio.sleep(after_s)
        clock.fail_next = True

    async def scene() -> None:
        runners = [Hasty("a", useful(4)), Hasty("b", useful(1))]
        async with running(Batcher(lanes=lanes, clock=clock)) as batcher:
            dying = [asyncio.create_task(die(after_s)) for after_s in deaths]
            results = await asyncio.gather(*(visit(batcher, runners, visitor) for visitor in visitors))
            await asyncio.gather(*dying)
            for visitor, result in zip(visitors, results, strict=True):
                check(visitor, result)
            await until(lambda: is_clean(batcher))
            assert is_clean(batcher)
            clock.fail_next = False
            assert (await ask(batcher, runners[0], 21.0)).output.tolist() == [[42.0]]

    def check(visitor: Visitor, result: object) -> None:
        if isinstance(result, BatchAnswer):
            assert result.output[:, 0].tolist() == [2 * value for value in visitor.values]
        elif isinstance(result, BatchItemFailed):
            assert BAD in visitor.values
        elif isinstance(result, DeadlineExceeded):
            assert visitor.deadline_s < math.inf
        elif isinstance(result, BatchInterrupted):
            assert deaths
        else:
            assert result is None
            assert visitor.leaves_s < math.inf

    play(scene)

"""What is over before a thread would have begun is computed by the event loop itself."""

import asyncio
import math
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from service.batcher import BatchAnswer, Batcher
from service.cancellation import Cancellation
from service.device import BuildItem, Row
from service.warm_up import BatchTime, WarmUp

from .scenes import Clock, Doubler, item, play, running, useful


class Located(Doubler):
    """Knows which threads its runs were in."""

    def run(self, inputs: Any, cancel: Cancellation | None = None) -> Any:
        self.threads.add(threading.current_thread())
        return super().run(inputs, cancel)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.threads = set[threading.Thread]()


def rows(count: int) -> list[BuildItem]:
    arrays = {"x": np.arange(count, dtype=np.float32)[:, None]}
    return [Row(arrays, place) for place in range(count)]


def compute(runner: Doubler, items: list[BuildItem]) -> BatchAnswer:
    answers: list[BatchAnswer] = []

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0), clock=Clock())) as batcher:
            batcher.expect([runner])
            answers.append(await batcher.run(runner, items, deadline_s=math.inf))

    play(scene)
    return answers[0]


QUICK = useful(2, seconds_per_item=1e-5)
PADDED = WarmUp(times=(BatchTime(1, 1e-5),), padded=True)


@pytest.mark.parametrize(
    ("items", "warm_up", "in_loop"),
    [
        pytest.param(rows(5), QUICK, True, id="tensors for a quick graph"),
        pytest.param(rows(5), useful(2, seconds_per_item=1.0), False, id="a slow graph"),
        pytest.param([item(n) for n in range(5)], QUICK, False, id="windows that must be built"),
        pytest.param(rows(5), PADDED, False, id="another device than the loop's"),
        pytest.param(rows(5), WarmUp(), False, id="nothing is known of the graph"),
    ],
)
def test_only_tensors_for_a_quick_graph_are_computed_in_the_loop(items, warm_up, in_loop):
    runner = Located(warm_up=warm_up)
    answer = compute(runner, items)

    assert answer.output[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert (runner.threads == {threading.main_thread()}) is in_loop
    assert runner.alone[0] is False or not in_loop  # a run of many threads would wake them


def test_the_loop_has_a_turn_after_each_quick_batch():
    runner, turns = Located(warm_up=QUICK), []

    async def scene() -> None:
        async with running(Batcher(clock=Clock())) as batcher:
            batcher.expect([runner])
            asking = asyncio.create_task(batcher.run(runner, rows(40), deadline_s=math.inf))
            while not asking.done():
                await asyncio.sleep(0)
                turns.append(len(runner.batches))
            assert (await asking).output[:, 0].tolist() == [2 * n for n in range(40)]

    play(scene)
    assert runner.threads == {threading.main_thread()}
    assert all(after - before <= 1 for before, after in pairwise(turns))
    assert len(runner.batches) == 20

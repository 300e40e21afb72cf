"""What is over before a thread would have begun is computed by the event loop itself."""

import asyncio
import math
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from service.batcher.batcher import BatchAnswer, Batcher
from service.batcher.quick import LONE_S, QUICK_S
from service.runtime.cancellation import Cancellation
from service.runtime.device import BuildItem, Row
from service.runtime.warm_up import BatchTime, WarmUp

from .scenes import Clock, Doubler, ask, item, play, running, until, useful


@dataclass
class Located(Doubler):
    """Knows which threads its runs were in; each item takes `item_s` of `busy`."""

    order: list[threading.Thread] = field(default_factory=list)
    """Of each run, the thread it was in."""
    busy: Clock = field(default_factory=Clock)
    item_s: float = 1.0

    @property
    def threads(self) -> set[threading.Thread]:
        return set(self.order)

    def run(self, inputs: Any, cancel: Cancellation | None = None, *_: object) -> Any:
        self.order.append(threading.current_thread())
        self.busy.now_s += self.item_s * len(inputs["x"])
        return super().run(inputs, cancel)


def rows(count: int) -> list[BuildItem]:
    arrays = {"x": np.arange(count, dtype=np.float32)[:, None]}
    return [Row(arrays, place) for place in range(count)]


def compute(runner: Doubler, items: list[BuildItem]) -> BatchAnswer:
    answers: list[BatchAnswer] = []

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0), clock=Clock(), thread_clock=Clock())) as batcher:
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
        pytest.param(
            rows(5), useful(1, seconds_per_item=QUICK_S / 4), False, id="many tensors for a graph that is quick"
        ),
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


@pytest.mark.parametrize(("item_s", "at_once"), [(0.7e-4, 4), (0.9 * QUICK_S, 1)])
def test_the_loop_computes_for_no_longer_than_is_quick_before_it_has_a_turn(item_s: float, at_once: int) -> None:
    thread_clock, turns = Clock(), list[int]()
    runner = Located(warm_up=useful(1, seconds_per_item=item_s), busy=thread_clock, item_s=item_s)

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=thread_clock)) as batcher:
            batcher.expect([runner])
            asking = [asyncio.create_task(batcher.run(runner, rows(1), deadline_s=math.inf)) for _ in range(40)]
            while not all(task.done() for task in asking):
                await asyncio.sleep(0)
                turns.append(sum(len(batch) for batch in runner.batches))

    play(scene)
    assert runner.threads == {threading.main_thread()}
    assert max(after - before for before, after in pairwise(turns)) == at_once


@pytest.mark.parametrize(("of_the_thread", "in_loop"), [(True, False), (False, True)])
def test_a_graph_is_quick_by_what_it_takes_of_its_thread_s_processor(of_the_thread: bool, in_loop: bool) -> None:
    clock, thread_clock = Clock(), Clock()
    runner = Located(warm_up=QUICK, busy=thread_clock if of_the_thread else clock)

    async def scene() -> None:
        async with running(Batcher(clock=clock, thread_clock=thread_clock)) as batcher:
            batcher.expect([runner])
            await batcher.run(runner, rows(2), deadline_s=math.inf)
            runner.order.clear()
            await batcher.run(runner, rows(2), deadline_s=math.inf)

    play(scene)
    assert (runner.threads == {threading.main_thread()}) is in_loop


def test_a_graph_that_a_thread_has_seen_to_be_quick_again_is_computed_by_the_loop() -> None:
    """However late the loop heard of it."""
    clock, thread_clock = Clock(), Clock()
    runner = Located(warm_up=QUICK, busy=thread_clock)

    async def scene() -> None:
        async with running(Batcher(clock=clock, thread_clock=thread_clock)) as batcher:
            batcher.expect([runner])
            await batcher.run(runner, rows(2), deadline_s=math.inf)
            runner.busy = clock
            for _ in range(200):
                await batcher.run(runner, rows(2), deadline_s=math.inf)
            runner.order.clear()
            await batcher.run(runner, rows(2), deadline_s=math.inf)

    play(scene)
    assert runner.threads == {threading.main_thread()}


def test_requests_for_a_quick_graph_are_brought_together_only_as_far_as_that_gains() -> None:
    runner = Located(warm_up=QUICK)
    answers: list[BatchAnswer] = []

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=Clock())) as batcher:
            batcher.expect([runner])
            asking = [batcher.run(runner, rows(1), deadline_s=math.inf) for _ in range(5)]
            answers.extend(await asyncio.gather(*asking))

    play(scene)
    assert [len(batch) for batch in runner.batches] == [2, 2, 1]
    assert [answer.largest_batch for answer in answers] == [2] * 5


def test_no_graph_is_believed_to_be_quicker_than_at_warm_up() -> None:
    """A run that is alone may be divided among threads, and a thread's clock may be coarse."""
    clock, thread_clock = Clock(), Clock()
    runner = Located(warm_up=useful(1, seconds_per_item=2 * QUICK_S), busy=clock)

    async def scene() -> None:
        async with running(Batcher(clock=clock, thread_clock=thread_clock)) as batcher:
            batcher.expect([runner])
            for _ in range(50):
                await batcher.run(runner, rows(1), deadline_s=math.inf)

    play(scene)
    assert threading.main_thread() not in runner.threads


def test_quick_requests_do_not_wait_for_a_device_nor_for_those_who_do() -> None:
    slow, quick = Located("slow", warm_up=useful(1, seconds_per_item=1.0)), Located("quick", warm_up=QUICK)

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=Clock())) as batcher:
            batcher.expect([slow, quick])
            held = await slow.hold(batcher)
            waiting = [ask(batcher, slow, 1.0), ask(batcher, quick, 2.0)]
            answer = await batcher.run(quick, rows(1), deadline_s=math.inf)
            assert [task.done() for task in (held, *waiting)] == [False] * 3
            slow.go.set()
            await asyncio.gather(held, *waiting)
            assert answer.output.tolist() == [[0.0]]

    play(scene)
    assert quick.threads > {threading.main_thread()}
    assert threading.main_thread() not in slow.threads


def test_windows_of_a_recording_are_not_built_by_the_loop_beside_tensors_for_the_same_graph() -> None:
    runner = Located(warm_up=QUICK)
    builders = set[threading.Thread]()

    def build() -> Any:
        builders.add(threading.current_thread())
        return {"x": np.zeros(1, np.float32)}

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=Clock())) as batcher:
            batcher.expect([runner])
            asking = [batcher.run(runner, items, deadline_s=math.inf) for items in (rows(1), [build] * 8, rows(1))]
            await asyncio.gather(*asking)

    play(scene)
    assert builders
    assert threading.main_thread() not in builders


def test_requests_that_came_before_their_graph_was_seen_to_be_slow_go_to_a_device() -> None:
    thread_clock = Clock()
    runner = Located(warm_up=useful(1, seconds_per_item=0.9 * QUICK_S), busy=thread_clock)

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=thread_clock)) as batcher:
            batcher.expect([runner])
            await asyncio.gather(*(batcher.run(runner, rows(1), deadline_s=math.inf) for _ in range(5)))

    play(scene)
    assert [thread is threading.main_thread() for thread in runner.order] == [True, False, False, False, False]


SHORT = useful(2, seconds_per_item=LONE_S / 2)


@pytest.mark.parametrize(
    ("items", "warm_up", "loop_is_free", "in_loop"),
    [
        pytest.param(rows(2), SHORT, True, True, id="short, and nothing else goes on"),
        pytest.param(rows(2), SHORT, False, False, id="short, while others need the event loop"),
        pytest.param(rows(3), SHORT, True, False, id="too many tensors"),
        pytest.param([item(0.0)], SHORT, True, False, id="a window that must be built"),
        pytest.param(rows(1), WarmUp(times=(BatchTime(1, LONE_S / 2),), padded=True), True, False, id="another device"),
    ],
)
def test_the_loop_computes_short_work_that_is_alone_with_the_threads_of_a_run_that_is_alone(
    items: list[BuildItem], warm_up: WarmUp, loop_is_free: bool, in_loop: bool
) -> None:
    runner = Located(warm_up=warm_up)

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0), clock=Clock(), thread_clock=Clock())) as batcher:
            request = batcher.submit(runner, items, deadline_s=math.inf, loop_is_free=loop_is_free)
            answer = await request.answer
            batcher.leave(request)
            assert answer.output[:, 0].tolist() == [2.0 * n for n in range(len(items))]

    play(scene)
    assert (runner.threads == {threading.main_thread()}) is in_loop
    assert runner.alone[0] or not in_loop


def test_short_work_that_is_not_alone_after_all_goes_to_the_threads() -> None:
    """Another request came in the same turn of the event loop, or computes already."""
    runner = Located(warm_up=useful(1, seconds_per_item=LONE_S))

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0), clock=Clock(), thread_clock=Clock())) as batcher:
            held = await runner.hold(batcher)
            beside = batcher.submit(runner, rows(1), deadline_s=math.inf, loop_is_free=True)
            runner.go.set()
            await asyncio.gather(held, beside.answer)
            pair = [batcher.submit(runner, rows(1), deadline_s=math.inf, loop_is_free=True) for _ in range(2)]
            await asyncio.gather(*(request.answer for request in pair))
            for request in (beside, *pair):
                batcher.leave(request)

    play(scene)
    assert [thread is threading.main_thread() for thread in runner.order] == [False] * 4


def test_who_waits_for_no_device_is_not_predicted_to() -> None:
    slow, quick = Located("slow", warm_up=useful(1, seconds_per_item=1.0)), Located("quick", warm_up=QUICK)

    async def scene() -> None:
        async with running(Batcher(clock=Clock(), thread_clock=Clock())) as batcher:
            batcher.expect([slow, quick])
            held = await slow.hold(batcher)
            waiting = ask(batcher, slow, *range(10))
            await until(lambda: batcher.queue_items == 10)
            beside = batcher.submit(quick, rows(3), deadline_s=math.inf)
            waits_s = [
                batcher.wait_s(key, count, tensors=tensors)
                for key, count, tensors in [("quick", 2, True), ("quick", 1, False), ("quick", 100, True)]
            ]
            assert waits_s[0] == pytest.approx(QUICK.batch_s(3) + QUICK.batch_s(2))
            assert (
                min(waits_s[1:]) > 1.0
            )  # windows that must be built, and too many tensors, stand behind the slow ones
            assert batcher.wait_s("slow", 1, tensors=True) == batcher.forecast.wait_s("slow", 1)
            assert batcher.queued_s("quick") == pytest.approx(QUICK.batch_s(3))
            drain_s = batcher.forecast.drain_s()
            assert drain_s > 10.0
            assert batcher.queued_s("slow") == drain_s
            slow.go.set()
            await asyncio.gather(held, waiting, beside.answer)
            batcher.leave(beside)

    play(scene)

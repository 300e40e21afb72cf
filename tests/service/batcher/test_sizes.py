"""How large a batch is, and who goes first when time is short."""

import asyncio

from service.batcher.batcher import (
    Batcher,
)
from service.runtime.warm_up import BatchTime, WarmUp

from .scenes import Clock, Doubler, ask, play, running, until, useful


def test_a_batch_is_no_larger_than_is_useful_for_its_graph():
    one, other = Doubler("one", useful(2)), Doubler("other", WarmUp())

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            await asyncio.gather(ask(batcher, one, *range(6)), ask(batcher, other, *range(3)))

    play(scene)
    assert [len(batch) for batch in one.batches] == [2, 2, 2]
    assert [len(batch) for batch in other.batches] == [1, 1, 1]


def test_a_batch_takes_no_longer_than_the_latency_objective_or_than_is_left():
    clock = Clock()
    linear = WarmUp(1.0, tuple(BatchTime(n, 0.9 * n + 0.1) for n in (1, 2, 4, 8)))  # n / (0.9 n + 0.1) rises to 8

    async def sizes(objective_s: float, left_s: float) -> list[int]:
        runner = Doubler(warm_up=linear)
        assert runner.warm_up.useful_batch >= 2
        async with running(Batcher(latency_objective_s=objective_s, clock=clock)) as batcher:
            batcher.rate.observe = lambda *_: None  # the clock stands still, so each batch seems to take no time
            first = await runner.hold(batcher)
            long = ask(batcher, runner, *range(8), deadline_s=clock.now_s + left_s)
            await until(lambda: batcher.queue_items == 8)
            runner.go.set()
            await asyncio.gather(first, long)
        return [len(batch) for batch in runner.batches][1:]

    async def scene() -> None:
        assert await sizes(100.0, 100.0) == [2, 2, 2, 2]
        assert await sizes(1.0, 100.0) == [1] * 8
        assert await sizes(100.0, 1.5) == [1] * 8

    play(scene)


def test_a_request_in_danger_goes_first_and_shares_with_those_who_have_time():
    clock, order = Clock(), []
    runner = Doubler(warm_up=useful(1, seconds_per_item=1.0), batches=order)

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            batcher.expect([runner])
            batcher.rate.observe = lambda *_: None  # the clock stands still, so each batch seems to take no time
            first = await runner.hold(batcher)
            patient = [ask(batcher, runner, 10.0 * n, deadline_s=clock.now_s + 1000) for n in range(1, 7)]
            await until(lambda: batcher.queue_items == 6)
            hurried = ask(batcher, runner, 1.0, 2.0, 3.0, deadline_s=clock.now_s + 3)  # ten items are here
            await until(lambda: batcher.queue_items == 9)
            runner.go.set()
            await asyncio.gather(first, hurried, *patient)

    play(scene)
    assert order == [[0], [1], [10], [2], [20], [3], [30], [40], [50], [60]]


def test_nobody_waits_longer_than_for_every_second_batch_of_those_in_danger():
    clock, order = Clock(), []
    runner = Doubler(warm_up=useful(1, seconds_per_item=1.0), batches=order)

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            batcher.expect([runner])
            batcher.rate.observe = lambda *_: None
            first = await runner.hold(batcher)
            hurried = [ask(batcher, runner, *[n] * 10, deadline_s=clock.now_s + 30 + n) for n in (1, 2, 3)]
            patient = ask(batcher, runner, 7.0, 7.0)
            await until(lambda: batcher.queue_items == 32)
            runner.go.set()
            await asyncio.gather(first, patient, *hurried)

    play(scene)
    assert order.index([7]) <= 8  # its turn comes after three others, at every second place

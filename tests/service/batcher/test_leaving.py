"""Deadlines, clients that go away, and the end of the service."""

import asyncio
import time
from weakref import ref

import pytest

from service.batcher.batcher import (
    Batcher,
    BatchInterrupted,
    BatchReport,
    DeadlineExceeded,
)

from .scenes import HANG_S, Clock, Doubler, ask, is_clean, item, play, running, until, useful


def test_expired_items_never_reach_the_device():
    clock, runner = Clock(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            late = ask(batcher, runner, 1.0, 2.0, deadline_s=clock.now_s + 5)
            patient = ask(batcher, runner, 3.0, deadline_s=clock.now_s + 50)
            await until(lambda: batcher.queue_items == 3)
            clock.now_s += 6
            runner.go.set()
            with pytest.raises(DeadlineExceeded, match="0 of 2 items"):
                await late
            assert (await patient).output.tolist() == [[6.0]]
            await first
            assert is_clean(batcher)

    play(scene)
    assert runner.batches == [[0], [3]]


def test_in_a_crowd_nobody_is_computed_for_whom_it_would_be_too_late():
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=2.0))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            late = ask(batcher, runner, 1.0, deadline_s=clock.now_s + 3.5)
            in_time = ask(batcher, runner, 2.0, deadline_s=clock.now_s + 4.5)
            await until(lambda: batcher.queue_items == 2)
            clock.now_s += 2  # as long as the first takes; another would end at 4
            runner.go.set()
            with pytest.raises(DeadlineExceeded, match="0 of 1 items"):
                await late
            assert (await in_time).output.tolist() == [[4.0]]
            await first
            assert is_clean(batcher)

    play(scene)
    assert runner.batches == [[0], [2]]


def test_who_is_alone_is_computed_however_little_time_is_left():
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=2.0))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            assert (await ask(batcher, runner, 1.0, deadline_s=clock.now_s + 0.5)).output.tolist() == [[2.0]]

    play(scene)


def test_of_a_crowd_that_seems_hopeless_one_is_tried():
    # times so long that the timers, which go by the real clock, are not over before all are here
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=2000.0))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            crowd = [ask(batcher, runner, float(n), deadline_s=clock.now_s + 100 * n) for n in range(1, 10)]
            await until(lambda: batcher.queue_items == 9)
            runner.go.set()
            *others, last = await asyncio.gather(*crowd, return_exceptions=True)
            await first
            assert [type(answer) for answer in others] == [DeadlineExceeded] * 8
            assert last.output.tolist() == [[18.0]]

    play(scene)


def test_another_graphs_crowd_is_none_of_ones_own():
    clock = Clock()
    busy = Doubler(key="busy", warm_up=useful(1, seconds_per_item=0.001))
    slow = Doubler(key="slow once", warm_up=useful(1, seconds_per_item=2.0))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await busy.hold(batcher)
            crowd = [ask(batcher, busy, float(n)) for n in range(3)]
            tried = ask(batcher, slow, 9.0, deadline_s=clock.now_s + 1.5)
            await until(lambda: batcher.queue_items == 4)
            busy.go.set()
            assert (await tried).output.tolist() == [[18.0]]
            await asyncio.gather(first, *crowd)

    play(scene)


def test_a_deadline_that_is_over_is_refused_without_a_place_in_the_queue():
    clock, runner = Clock(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            with pytest.raises(DeadlineExceeded):
                await ask(batcher, runner, 1.0, deadline_s=clock.now_s)

    play(scene)
    assert runner.batches == []


def test_a_deadline_is_kept_while_the_device_is_stuck():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            began_s = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await ask(batcher, runner, 1.0, deadline_s=began_s + 0.05)
            assert time.monotonic() - began_s < HANG_S / 2  # the device is stuck for longer
            assert batcher.queue_items == 0
            runner.go.set()
            await first

    runner = Doubler()
    play(scene)
    assert runner.batches == [[0]]


def test_a_cancelled_request_leaves_at_once_and_its_neighbours_do_not_notice():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            gone, stays = ask(batcher, runner, *range(100, 150)), ask(batcher, runner, 1.0, 2.0)
            await until(lambda: batcher.queue_items == 52)
            gone.cancel()
            await asyncio.wait([gone])
            assert batcher.queue_items == 2
            runner.go.set()
            assert (await stays).output[:, 0].tolist() == [2, 4]
            await first
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert runner.batches == [[0], [1, 2]]


def test_what_a_client_has_sent_is_given_up_when_it_leaves_however_much_time_it_had():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            waits = ask(batcher, runner, 1.0, deadline_s=now_s + HANG_S)
            sent = item(2.0)
            held = ref(sent)
            leaves = asyncio.create_task(batcher.run(runner, [sent], deadline_s=now_s + 2 * HANG_S))
            del sent
            await until(lambda: batcher.queue_items == 2)
            leaves.cancel()
            await asyncio.wait([leaves])
            del leaves
            assert held() is None
            runner.go.set()
            await asyncio.gather(first, waits)

    runner, now_s = Doubler(), time.monotonic()
    play(scene)


def test_cancelling_what_the_device_computes_spares_the_others_in_the_batch():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            runner.go.clear()
            gone, stays = ask(batcher, runner, *range(100, 150)), ask(batcher, runner, 1.0)
            await until(runner.entered.is_set)
            gone.cancel()
            await asyncio.wait([gone])
            assert gone.cancelled()
            assert batcher.queue_items == 0
            runner.go.set()
            assert (await stays).output.tolist() == [[2.0]]
            await until(lambda: is_clean(batcher))
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert runner.batches == [[100, 1, 101, 102]]  # what was in hand is finished, and nothing after it


def test_closing_finishes_what_is_here_and_takes_nothing_new():
    async def scene() -> None:
        batcher = Batcher()
        await batcher.start()
        first = await runner.hold(batcher)
        waiting = ask(batcher, runner, *range(1, 8))
        await until(lambda: batcher.queue_items == 7)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(BatchInterrupted, match="not running"):
            await ask(batcher, runner, 9.0)
        runner.go.set()
        await closing
        assert len((await waiting).output) == 7
        await first
        await batcher.close()  # again: nothing happens

    runner = Doubler(warm_up=useful(2))
    play(scene)


def test_closing_fails_what_a_stuck_device_does_not_finish():
    async def scene() -> None:
        batcher = Batcher()
        await batcher.start()
        first = await runner.hold(batcher)
        waiting = ask(batcher, runner, 1.0)
        await until(lambda: batcher.queue_items == 1)
        await batcher.close(timeout_s=0.05)
        for task in (first, waiting):
            with pytest.raises(BatchInterrupted, match="stopping"):
                await task
        assert is_clean(batcher)
        runner.go.set()

    runner = Doubler()
    play(scene)


def test_a_batcher_that_was_not_started_and_an_empty_request_are_refused():
    async def scene() -> None:
        with pytest.raises(BatchInterrupted, match="not running"):
            await ask(Batcher(), Doubler(), 1.0)
        async with running(Batcher()) as batcher:
            with pytest.raises(ValueError, match="at least one item"):
                await ask(batcher, Doubler())

    play(scene)
    with pytest.raises(ValueError, match="at least one lane"):
        Batcher(lanes=())


def test_a_run_ends_when_everybody_in_its_batch_has_gone_and_the_next_one_is_right():
    reports: list[BatchReport] = []

    async def scene() -> None:
        async with running(Batcher(observer=reports.append)) as batcher:
            runner.go.clear()
            gone = [ask(batcher, runner, float(n)) for n in (1, 2)]
            await until(runner.entered.is_set)
            gone[0].cancel()
            await asyncio.wait([gone[0]])
            (batch,) = batcher.in_hand
            assert not batch.cancel.asked
            gone[1].cancel()
            await until(lambda: not batcher.in_hand)  # although `go` is not set
            runner.go.set()
            assert (await ask(batcher, runner, 3.0)).output.tolist() == [[6.0]]
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)
    assert [report.outcome for report in reports] == ["cancelled", "ok"]
    assert runner.batches == [[1, 2], [3]]


def test_a_run_ends_when_the_time_of_everybody_in_its_batch_is_over():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            runner.go.clear()
            with pytest.raises(DeadlineExceeded):
                await ask(batcher, runner, 1.0, deadline_s=time.monotonic() + 0.02)
            await until(lambda: not batcher.in_hand)
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)

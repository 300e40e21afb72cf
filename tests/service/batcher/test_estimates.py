"""What the batcher says of itself: stalls, waits, rates, reports."""

import asyncio

import pytest

from service.batcher.batcher import (
    Batcher,
    BatchReport,
)
from service.batcher.drain_rate import DrainRate
from service.runtime.warm_up import BatchTime, WarmUp

from .scenes import Clock, Doubler, ask, play, running, until, useful


def test_a_stalled_device_shows_and_an_idle_one_does_not():
    clock, runner = Clock(), Doubler(warm_up=useful(4, slowest_batch_s=1.0, seconds_per_item=0.1))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            clock.now_s += 3600  # an hour of rest is no stall
            assert not batcher.stalled()
            first = await runner.hold(batcher)
            assert batcher.in_hand[0].began_s == clock.now_s
            clock.now_s += 4.9
            assert not batcher.stalled()
            clock.now_s += 0.2
            assert batcher.stalled()
            runner.go.set()
            await first
            assert not batcher.stalled()
            assert batcher.last_progress_s == clock.now_s

    play(scene)


def test_the_predicted_wait_counts_turns_and_what_is_left_of_the_batch_in_hand():
    clock, runner = Clock(), Doubler(warm_up=WarmUp(8.0, (BatchTime(1, 1.0), BatchTime(4, 3.6))))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            assert batcher.forecast.wait_s(runner.key, 3) == 0  # nothing is known yet
            batcher.expect([runner])
            assert batcher.forecast.wait_s(runner.key, 3) == pytest.approx(1.0 + 2.6 * 2 / 3)  # one batch
            first = await runner.hold(batcher)
            clock.now_s += 0.25
            long = ask(batcher, runner, *range(100))
            await until(lambda: batcher.queue_items == 100)
            assert batcher.forecast.drain_s() == pytest.approx(0.75 + 90)
            assert batcher.forecast.wait_s(runner.key, 1) == pytest.approx(0.75 + 3.6)  # one batch, shared
            assert batcher.forecast.wait_s(runner.key, 50) == pytest.approx(0.75 + 90)
            assert batcher.forecast.wait_s(runner.key, 200) == pytest.approx(0.75 + 270)
            assert batcher.forecast.wait_s("unknown", 1) == pytest.approx(0.75 + 3.6 + 0.9)
            runner.go.set()
            await asyncio.gather(first, long)

    play(scene)


@pytest.mark.parametrize(("lanes", "alone_s"), [((0, 0), 0.5), ((0, 1), 1.0)], ids=["one device", "two devices"])
def test_the_predicted_wait_counts_what_lanes_share_and_what_they_do_not(lanes, alone_s):
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=1.0))

    async def scene() -> None:
        async with running(Batcher(lanes=lanes, clock=clock)) as batcher:
            batcher.expect([runner])
            assert batcher.forecast.wait_s(runner.key, 1) == pytest.approx(alone_s)  # divided among a device's lanes
            first = await runner.hold(batcher)
            clock.now_s += 0.25
            assert batcher.forecast.wait_s(runner.key, 1) == pytest.approx(1.0)  # the other lane is free
            assert batcher.forecast.wait_s(runner.key, 3) == pytest.approx(1.5)
            second = await runner.hold(batcher)
            assert not batcher.forecast.is_free
            assert batcher.forecast.wait_s(runner.key, 1) == pytest.approx((0.75 + 1.0 + 1.0) / 2 + 0.5)
            runner.go.set()
            await asyncio.gather(first, second)

    play(scene)


def test_what_was_slow_once_is_believed_only_while_others_are_at_work():
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=1.0))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            clock.now_s += 50
            runner.go.set()
            await first
            assert batcher.rate.seconds_per_item(runner.key) > 10
            assert batcher.forecast.wait_s(runner.key, 2) == pytest.approx(2.0)
            second = await runner.hold(batcher)
            assert batcher.forecast.wait_s(runner.key, 2) > 20
            runner.go.set()
            await second

    play(scene)


@pytest.mark.parametrize(
    ("lanes", "drains_s"), [((0,), 0.525), ((0, 1), 0.525), ((0, 0), 1.0)], ids=["one lane", "two devices", "two lanes"]
)
def test_a_run_that_was_divided_since_it_was_alone_tells_nothing_of_a_full_queue(lanes, drains_s):
    clock, runner = Clock(), Doubler(warm_up=useful(1, seconds_per_item=1.0))

    async def scene() -> None:
        async with running(Batcher(lanes=lanes, clock=clock)) as batcher:
            batcher.expect([runner])
            lone = await runner.hold(batcher)
            clock.now_s += 0.1
            runner.go.set()
            await lone
            assert batcher.rate.seconds_per_item(runner.key) == pytest.approx(drains_s, rel=0.01)

    play(scene)


@pytest.mark.parametrize(
    ("lanes", "busy_s"), [((0,), 0.5), ((0, 1), 0.25), ((0, 0), 0.5)], ids=["one lane", "two devices", "two lanes"]
)
def test_a_run_that_was_divided_since_it_was_alone_has_kept_all_lanes_of_its_device_busy(lanes, busy_s):
    clock, reports = Clock(), []
    runner = Doubler(warm_up=useful(1, seconds_per_item=1.0))

    async def scene() -> None:
        async with running(Batcher(lanes=lanes, clock=clock, observer=reports.append)) as batcher:
            lone = await runner.hold(batcher)
            clock.now_s += 0.5
            runner.go.set()
            await lone

    play(scene)
    assert [report.busy_s for report in reports] == [busy_s]


def test_the_drain_rate_follows_the_device():
    rate = DrainRate()
    rate.expect("a", useful(8, seconds_per_item=1.0))
    assert rate.seconds_per_item("a") == 1.0
    for _ in range(100):
        rate.observe("a", 8, 4.0)

    assert rate.seconds_per_item("a") == pytest.approx(0.5, rel=1e-3)
    assert rate.batch_s("a", 8) == pytest.approx(4.0, rel=1e-3)
    rate.expect("a", useful(8, seconds_per_item=9.0))
    assert rate.seconds_per_item("a") == pytest.approx(0.5, rel=1e-3)


def test_single_items_do_not_hide_how_fast_batches_are():
    rate = DrainRate()
    rate.expect("a", WarmUp(0.0, (BatchTime(1, 1.0), BatchTime(8, 2.0))))
    for _ in range(100):
        rate.observe("a", 1, 2.0)  # twice what warm-up measured

    assert rate.seconds_per_item("a") == pytest.approx(2 * 2.0 / 8)


def test_reports_tell_sizes_and_the_queue():
    reports: list[BatchReport] = []

    async def scene() -> None:
        async with running(Batcher(observer=reports.append)) as batcher:
            await ask(batcher, runner, 1.0, 2.0, 3.0)

    runner = Doubler(key="k", warm_up=useful(2))
    play(scene)
    assert [(r.runner_key, r.size, r.failed) for r in reports] == [("k", 2, 0), ("k", 1, 0)]
    assert all(report.busy_s > 0 for report in reports)

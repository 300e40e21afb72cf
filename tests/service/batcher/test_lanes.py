"""Several devices, and several threads of one."""

import asyncio

import pytest

from service.batcher.batcher import (
    Batcher,
)

from .scenes import Clock, Doubler, ask, is_clean, play, running, until, useful


def test_several_devices_share_one_queue_and_each_computes_with_its_own_runner():
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1, 2))) as batcher:
            runner.go.clear()
            tasks = []
            for n in range(3):  # an idle device takes a batch that is not full
                tasks.append(ask(batcher, runner, float(n)))
                await until(lambda: len(batcher.in_hand) == len(tasks))
            tasks.append(ask(batcher, runner, *range(3, 20)))
            await until(lambda: batcher.queue_items == 17)
            runner.go.set()
            answers = await asyncio.gather(*tasks)
            assert [answer.output[:, 0].tolist() for answer in answers[:3]] == [[0], [2], [4]]
            assert answers[3].output[:, 0].tolist() == [2 * n for n in range(3, 20)]
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert set(runner.devices) == {0, 1, 2}


def test_a_second_thread_of_a_busy_device_takes_full_batches_only():
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0))) as batcher:
            first = await runner.hold(batcher)
            others = [ask(batcher, runner, 1.0)]
            await until(lambda: batcher.queue_items == 1)
            await asyncio.sleep(0)
            assert len(batcher.in_hand) == 1
            others.append(ask(batcher, runner, 2.0))
            await until(lambda: len(batcher.in_hand) == 2)
            runner.go.set()
            await asyncio.gather(first, *others)

    runner = Doubler(warm_up=useful(2))
    play(scene)
    assert runner.batches == [[0], [1, 2]]


def test_only_a_batch_with_nothing_beside_or_behind_it_is_alone():
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0))) as batcher:
            await ask(batcher, runner, 1.0)
            first = await runner.hold(batcher, 2.0)
            beside = ask(batcher, runner, 3.0)
            await until(lambda: len(runner.batches) == 3)
            runner.go.set()
            await asyncio.gather(first, beside)
            await ask(batcher, runner, 4.0, 5.0)

    runner = Doubler(warm_up=useful(1))
    play(scene)
    assert runner.alone == [True, True, False, False, False]


@pytest.mark.parametrize(("seconds_per_item", "handed_out"), [(1e-6, 3), (1.0, 1)])
def test_short_full_batches_wait_at_the_device_and_long_ones_in_the_queue(seconds_per_item, handed_out):
    clock, runner = Clock(), Doubler(warm_up=useful(2, seconds_per_item=seconds_per_item))

    async def scene() -> None:
        async with running(Batcher(ahead=2, clock=clock)) as batcher:
            batcher.expect([runner])
            first = await runner.hold(batcher)
            others = ask(batcher, runner, *range(7))
            await until(lambda: len(batcher.in_hand) == handed_out)
            await asyncio.sleep(0)
            assert batcher.queue_items == 7 - 2 * (handed_out - 1)
            clock.now_s += 1
            runner.go.set()
            await first
            answer = await others
            assert answer.output[:, 0].tolist() == [2 * n for n in range(7)]
            assert answer.inference_s == 0  # what waited at the device was not computed meanwhile
            assert is_clean(batcher)

    play(scene)


def test_a_device_that_hangs_shows_although_another_goes_on():
    clock, stuck, well = Clock(), Doubler("stuck", useful(1)), Doubler("well", useful(1))

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1), clock=clock)) as batcher:
            hung = await stuck.hold(batcher)
            for _ in range(3):
                clock.now_s += 1
                await ask(batcher, well, 1.0)
            assert batcher.stalled()
            stuck.go.set()
            await hung
            assert not batcher.stalled()

    play(scene)


def test_time_on_several_devices_at_once_counts_once():
    clock, runner = Clock(), Doubler(warm_up=useful(1))

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1), clock=clock)) as batcher:
            runner.go.clear()
            both = ask(batcher, runner, 1.0, 2.0)
            await until(lambda: [batch.began_s for batch in batcher.in_hand] == [clock.now_s] * 2)
            clock.now_s += 3
            runner.go.set()
            assert (await both)[1:] == (0, 3, 1)

    play(scene)

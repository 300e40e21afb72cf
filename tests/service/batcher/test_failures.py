"""What one item, one runner or the loop itself does wrong costs those it concerns, and nobody else."""

import asyncio
import logging
import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batcher.batcher import (
    BatchAnswer,
    Batcher,
    BatchInterrupted,
    BatchItemFailed,
    BatchReport,
)
from service.runtime.cancellation import Cancellation

from .scenes import BAD, Clock, Doubler, ask, broken, is_clean, item, play, running, until, useful


def wrong_shape() -> Mapping[str, NDArray[np.generic]]:
    return {"x": np.full(2, BAD, np.float32)}


def wrong_names() -> Mapping[str, NDArray[np.generic]]:
    return {"y": np.zeros(1, np.float32)}


@pytest.mark.parametrize("culprit", [item(BAD), broken, wrong_shape, wrong_names])
@pytest.mark.parametrize("position", [0, 3, 7])
def test_one_bad_item_in_a_batch_of_eight_fails_alone(culprit, position):
    reports: list[BatchReport] = []

    async def scene() -> None:
        async with running(Batcher(observer=reports.append)) as batcher:
            first = await runner.hold(batcher)
            tasks = []
            for n in range(8):
                build = culprit if n == position else item(n + 1.0)
                tasks.append(asyncio.create_task(batcher.run(runner, [build], deadline_s=math.inf)))
            await until(lambda: batcher.queue_items == 8)
            runner.go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for n, result in enumerate(results):
                if n == position:
                    assert isinstance(result, BatchItemFailed)
                    assert result.__cause__ is not None
                else:
                    assert isinstance(result, BatchAnswer)
                    assert result.output.tolist() == [[2 * (n + 1.0)]]
            await first
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)
    assert [(report.size, report.failed) for report in reports] == [(1, 0), (8, 1)]


def test_a_failed_item_takes_the_rest_of_its_own_request_with_it():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            with pytest.raises(BatchItemFailed, match="item 1 of 50"):
                await ask(batcher, runner, 1.0, BAD, *range(100, 148))
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(2))
    play(scene)
    assert len(runner.batches) == 3  # the pair, then each alone


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, MemoryError, TimeoutError])
def test_whatever_an_item_raises_neither_ends_the_loop_nor_passes_for_a_cancellation(error):
    def build() -> Mapping[str, NDArray[np.generic]]:
        raise error

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            with pytest.raises(BatchItemFailed):
                await batcher.run(runner, [build], deadline_s=math.inf)
            assert (await ask(batcher, runner, 1.0)).output.tolist() == [[2.0]]

    runner = Doubler()
    play(scene)


def test_a_runner_that_gives_too_few_rows_is_a_failure_and_not_a_mixture():
    class Short(Doubler):
        def run(
            self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None, *_: object
        ) -> NDArray[np.generic]:
            return super().run(inputs, cancel)[:1]

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            answer = await ask(batcher, Short(), 1.0, 2.0)
            assert answer.output[:, 0].tolist() == [2.0, 4.0]  # run alone, one row is right

    play(scene)


class Faulty(Clock):
    """Fails while it is told to."""

    fail = False

    def __call__(self) -> float:
        if self.fail:
            raise ArithmeticError("the clock is broken")
        return super().__call__()


def test_a_failure_of_the_loop_with_a_batch_fails_that_batch_and_nobody_else(caplog):
    clock, runner = Faulty(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            second = ask(batcher, runner, 1.0)
            await until(lambda: batcher.queue_items == 1)
            finished = batcher._finished
            (batch,) = batcher.in_hand
            clock.fail = True
            finished(batch, [])
            clock.fail = False
            with pytest.raises(BatchInterrupted, match="loop died"):
                await first
            with pytest.raises(BatchInterrupted, match="loop died"):
                await second  # the clock was broken when its batch would have begun
            runner.go.set()
            assert (await ask(batcher, runner, 2.0)).output.tolist() == [[4.0]]
            assert is_clean(batcher)

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "restarted" in caplog.text


def test_a_loop_that_fails_with_nothing_in_hand_fails_those_who_wait_and_does_not_spin(caplog):
    clock, runner = Faulty(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            waiting = ask(batcher, runner, 1.0)
            asyncio.get_running_loop().call_soon(setattr, clock, "fail", True)  # after `run`, and before its step
            with pytest.raises(BatchInterrupted):
                await waiting
            await asyncio.sleep(0.01)
            clock.fail = False
            assert (await ask(batcher, runner, 2.0)).output.tolist() == [[4.0]]
            assert is_clean(batcher)

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert caplog.text.count("the batch loop died") == 1


def test_an_observer_that_fails_costs_nobody_an_answer(caplog):
    def observer(_: BatchReport) -> None:
        raise LookupError("no such series")

    async def scene() -> None:
        async with running(Batcher(observer=observer)) as batcher:
            answers = await asyncio.gather(*(ask(batcher, runner, float(n)) for n in range(10)))
            assert [answer.output[0, 0] for answer in answers] == [2.0 * n for n in range(10)]
            assert len((await ask(batcher, runner, *range(20))).output) == 20
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert "no such series" in caplog.text

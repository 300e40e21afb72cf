"""The batcher under everything that has hung, starved or poisoned other servers' batchers."""

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import bundle as bundle_format
from service.batcher import (
    BatchAnswer,
    Batcher,
    BatchInterrupted,
    BatchItemFailed,
    BatchReport,
    DeadlineExceeded,
)
from service.cancellation import Cancellation, RunCancelled
from service.device import Row
from service.drain_rate import DrainRate
from service.provider_options import CPU
from service.providers import Providers
from service.runtime import GraphRunner
from service.warm_up import BatchTime, WarmUp

BAD = -1.0
HANG_S = 10.0
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

    def run(self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None) -> NDArray[np.generic]:
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


def test_every_item_gets_its_own_row_in_order():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            answers = await asyncio.gather(*(ask(batcher, runner, *range(n, n + 7)) for n in (0, 100, 200)))
            for n, answer in zip((0, 100, 200), answers, strict=True):
                assert answer.output[:, 0].tolist() == [2 * value for value in range(n, n + 7)]
            assert is_clean(batcher)

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert max(map(len, runner.batches)) == 4
    assert sum(map(len, runner.batches)) == 21


def test_a_real_graph_answers_many_requests_as_it_answers_one(affect_bundle: Path):
    bundle = bundle_format.load(affect_bundle)
    graph = next(graph for graph in bundle.manifest.graphs if graph.available == ("voice",))
    runner = GraphRunner(bundle.file(graph.file), graph, providers=Providers((CPU,)), intra_op_threads=1)
    runner.warm_up = useful(8)
    voices = np.random.default_rng(0).uniform(-13, 2, (30, 64, 200)).astype(np.float32)
    voices[17] = np.nan

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            items = [Row({"voice": voices}, row) for row in range(30)]
            tasks = [batcher.run(runner, items[at : at + 6], deadline_s=math.inf) for at in range(0, 30, 6)]
            output = np.concatenate([answer.output for answer in await asyncio.gather(*tasks)])
            np.testing.assert_allclose(output, runner.run({"voice": voices}), atol=1e-6)
            assert np.isnan(output[17]).all()
            assert np.isfinite(np.delete(output, 17, axis=0)).all()

    play(scene)


def test_an_idle_device_starts_at_once_and_what_comes_meanwhile_shares_the_next_batch():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            others = [ask(batcher, runner, float(n)) for n in (1, 2, 3)]
            await until(lambda: batcher.queue_items == 3)
            runner.go.set()
            answers = await asyncio.gather(first, *others)
            assert [answer.largest_batch for answer in answers] == [1, 3, 3, 3]

    runner = Doubler()
    play(scene)
    assert runner.batches == [[0], [1, 2, 3]]


def test_times_in_queue_and_on_the_device_add_up():
    clock, runner = Clock(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            first = await runner.hold(batcher)
            clock.now_s += 1
            second = ask(batcher, runner, 1.0)
            await until(lambda: batcher.queue_items == 1)
            clock.now_s += 2
            runner.go.set()
            assert (await first)[1:] == (0, 3, 1)
            assert (await second)[1:] == (2, 0, 1)

    play(scene)


def test_a_short_request_waits_for_one_batch_of_a_long_one():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            long = ask(batcher, runner, *range(100, 200))
            await until(lambda: batcher.queue_items == 100)
            short = ask(batcher, runner, 7.0)
            await until(lambda: batcher.queue_items == 101)
            runner.go.set()
            await short
            assert not long.done()
            assert len((await long).output) == 100
            await first

    runner = Doubler(warm_up=useful(4))
    play(scene)
    assert runner.batches[:2] == [[0], [100, 7, 101, 102]]


def test_requests_take_turns_when_there_are_more_than_a_batch_holds():
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            tasks = [ask(batcher, runner, *(10.0 * n + k for k in range(2))) for n in (1, 2, 3)]
            await until(lambda: batcher.queue_items == 6)
            runner.go.set()
            await asyncio.gather(first, *tasks)

    runner = Doubler(warm_up=useful(2))
    play(scene)
    assert runner.batches == [[0], [10, 20], [30, 11], [21, 31]]


def test_graphs_take_turns_and_never_share_a_batch():
    order: list[list[float]] = []
    one, other = Doubler("one", useful(4), batches=order), Doubler("other", useful(4), batches=order)

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await one.hold(batcher)
            long = ask(batcher, one, *range(100, 140))
            await until(lambda: batcher.queue_items == 40)
            short = ask(batcher, other, 7.0)
            await until(lambda: batcher.queue_items == 41)
            one.go.set()
            await asyncio.gather(first, long, short)

    play(scene)
    assert order[:3] == [[0], [100, 101, 102, 103], [7]]


def test_tensors_are_built_only_for_the_batch_in_hand():
    built: list[int] = []

    def build(n: int) -> Mapping[str, NDArray[np.generic]]:
        built.append(n)
        return {"x": np.zeros(1, np.float32)}

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            runner.go.clear()
            items = [partial(build, n) for n in range(100)]
            task = asyncio.create_task(batcher.run(runner, items, deadline_s=math.inf))
            await until(runner.entered.is_set)
            assert built == [0, 1, 2, 3]
            runner.go.set()
            await task
            assert built == list(range(100))

    runner = Doubler(warm_up=useful(4))
    play(scene)


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
            self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None
        ) -> NDArray[np.generic]:
            return super().run(inputs, cancel)[:1]

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            answer = await ask(batcher, Short(), 1.0, 2.0)
            assert answer.output[:, 0].tolist() == [2.0, 4.0]  # run alone, one row is right

    play(scene)


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
            assert time.monotonic() - began_s < 2
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
            assert batcher.predicted_wait_s(runner.key, 3) == 0  # nothing is known yet
            batcher.expect([runner])
            assert batcher.predicted_wait_s(runner.key, 3) == pytest.approx(3 * 0.9)
            first = await runner.hold(batcher)
            clock.now_s += 0.25
            long = ask(batcher, runner, *range(100))
            await until(lambda: batcher.queue_items == 100)
            assert batcher.drain_s() == pytest.approx(0.75 + 90)
            assert batcher.predicted_wait_s(runner.key, 1) == pytest.approx(0.75 + 3.6)  # one batch, shared
            assert batcher.predicted_wait_s(runner.key, 50) == pytest.approx(0.75 + 90)
            assert batcher.predicted_wait_s(runner.key, 200) == pytest.approx(0.75 + 270)
            assert batcher.predicted_wait_s("unknown", 1) == pytest.approx(0.75 + 3.6 + 0.9)
            runner.go.set()
            await asyncio.gather(first, long)

    play(scene)


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
            await until(lambda: len(batcher.in_hand) == 2)
            clock.now_s += 3
            runner.go.set()
            assert (await both)[1:] == (0, 3, 1)

    play(scene)


@settings(max_examples=25, deadline=None)
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

    def run(self, inputs: Mapping[str, NDArray[np.generic]], cancel: Cancellation | None = None) -> NDArray[np.generic]:
        time.sleep(random.random() * 0.001)
        return super().run(inputs, cancel)


@settings(max_examples=60, deadline=None)
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

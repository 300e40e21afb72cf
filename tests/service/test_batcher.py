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
    TASK_NAME,
    BatchAnswer,
    Batcher,
    BatchInterrupted,
    BatchItemFailed,
    BatchReport,
    DeadlineExceeded,
)
from service.drain_rate import DrainRate
from service.runtime import CPU, GraphRunner, Providers, WarmUp

BAD = -1.0
HANG_S = 10.0
"""A test that takes longer hangs."""


@dataclass
class Doubler:
    """Gives twice its input; a batch with BAD in it fails. Each run waits for `go`, while that is cleared."""

    key: str = "doubler"
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 0.0))
    batches: list[list[float]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
        self.batches.append(inputs["x"][:, 0].tolist())
        self.entered.set()
        assert self.go.wait(HANG_S)
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
    return (
        not batcher.turns
        and batcher.queue_items == 0
        and batcher.in_hand == []
        and batcher.busy_since is None
        and batcher.idle.is_set()
    )


def test_every_item_gets_its_own_row_in_order():
    async def scene() -> None:
        async with running(Batcher(max_batch=4)) as batcher:
            answers = await asyncio.gather(*(ask(batcher, runner, *range(n, n + 7)) for n in (0, 100, 200)))
            for n, answer in zip((0, 100, 200), answers, strict=True):
                assert answer.output[:, 0].tolist() == [2 * value for value in range(n, n + 7)]
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)
    assert max(map(len, runner.batches)) == 4
    assert sum(map(len, runner.batches)) == 21


def test_a_real_graph_answers_many_requests_as_it_answers_one(affect_bundle: Path):
    bundle = bundle_format.load(affect_bundle)
    graph = next(graph for graph in bundle.manifest.graphs if graph.available == ("voice",))
    runner = GraphRunner(bundle.file(graph.file), graph, providers=Providers((CPU,)), intra_op_threads=1)
    voices = np.random.default_rng(0).uniform(-13, 2, (30, 64, 200)).astype(np.float32)
    voices[17] = np.nan

    async def scene() -> None:
        async with running(Batcher()) as batcher:
            items = [partial(lambda row: {"voice": voices[row]}, row) for row in range(30)]
            tasks = [batcher.run(runner, items[at : at + 6], deadline_s=math.inf) for at in range(0, 30, 6)]
            output = np.concatenate([answer.output for answer in await asyncio.gather(*tasks)])
            np.testing.assert_allclose(output, runner.run({"voice": voices}), atol=1e-6)
            assert np.isnan(output[17]).all()
            assert np.isfinite(np.delete(output, 17, axis=0)).all()

    play(scene)


def test_an_idle_device_starts_at_once_and_what_comes_meanwhile_shares_the_next_batch():
    async def scene() -> None:
        async with running(Batcher(max_batch=8)) as batcher:
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
        async with running(Batcher(max_batch=4)) as batcher:
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

    runner = Doubler()
    play(scene)
    assert runner.batches[:2] == [[0], [100, 7, 101, 102]]


def test_requests_take_turns_when_there_are_more_than_a_batch_holds():
    async def scene() -> None:
        async with running(Batcher(max_batch=2)) as batcher:
            first = await runner.hold(batcher)
            tasks = [ask(batcher, runner, *(10.0 * n + k for k in range(2))) for n in (1, 2, 3)]
            await until(lambda: batcher.queue_items == 6)
            runner.go.set()
            await asyncio.gather(first, *tasks)

    runner = Doubler()
    play(scene)
    assert runner.batches == [[0], [10, 20], [30, 11], [21, 31]]


def test_graphs_take_turns_and_never_share_a_batch():
    one, other = Doubler("one"), Doubler("other")

    async def scene() -> None:
        async with running(Batcher(max_batch=4)) as batcher:
            first = await one.hold(batcher)
            long = ask(batcher, one, *range(100, 140))
            await until(lambda: batcher.queue_items == 40)
            short = ask(batcher, other, 7.0)
            await until(lambda: batcher.queue_items == 41)
            one.go.set()
            await short
            assert len(one.batches) <= 3
            await asyncio.gather(first, long)

    play(scene)
    assert other.batches == [[7]]


def test_tensors_are_built_only_for_the_batch_in_hand():
    built: list[int] = []

    def build(n: int) -> Mapping[str, NDArray[np.generic]]:
        built.append(n)
        return {"x": np.zeros(1, np.float32)}

    async def scene() -> None:
        async with running(Batcher(max_batch=4)) as batcher:
            runner.go.clear()
            items = [partial(build, n) for n in range(100)]
            task = asyncio.create_task(batcher.run(runner, items, deadline_s=math.inf))
            await until(runner.entered.is_set)
            assert built == [0, 1, 2, 3]
            runner.go.set()
            await task
            assert built == list(range(100))

    runner = Doubler()
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
        async with running(Batcher(max_batch=8, observer=reports.append)) as batcher:
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
        async with running(Batcher(max_batch=2)) as batcher:
            with pytest.raises(BatchItemFailed, match="item 1 of 50"):
                await ask(batcher, runner, 1.0, BAD, *range(100, 148))
            assert is_clean(batcher)

    runner = Doubler()
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
        def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
            return super().run(inputs)[:1]

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
        async with running(Batcher(max_batch=4)) as batcher:
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

    runner = Doubler()
    play(scene)
    assert runner.batches == [[0], [1, 2]]


def test_cancelling_what_the_device_computes_spares_the_others_in_the_batch():
    async def scene() -> None:
        async with running(Batcher(max_batch=4)) as batcher:
            runner.go.clear()
            gone, stays = ask(batcher, runner, *range(100, 150)), ask(batcher, runner, 1.0)
            await until(runner.entered.is_set)
            gone.cancel()
            await asyncio.wait([gone])
            assert gone.cancelled()
            assert batcher.queue_items == 0
            runner.go.set()
            assert (await stays).output.tolist() == [[2.0]]
            await batcher.idle.wait()
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)
    assert runner.batches == [[100, 1, 101, 102]]  # what was in hand is finished, and nothing after it


def dispatcher() -> "asyncio.Task[None]":
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == TASK_NAME]
    return task


def test_the_death_of_the_loop_fails_its_batch_and_nobody_else(caplog):
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            second = ask(batcher, runner, 1.0)
            await until(lambda: batcher.queue_items == 1)
            dispatcher().cancel()
            with pytest.raises(BatchInterrupted, match="loop died"):
                await first
            runner.go.set()
            assert (await second).output.tolist() == [[2.0]]
            assert (await ask(batcher, runner, 2.0)).output.tolist() == [[4.0]]
            assert is_clean(batcher)

    runner = Doubler()
    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "restarted" in caplog.text


def test_a_loop_that_dies_with_nothing_in_hand_does_not_spin(caplog):
    class Faulty(Clock):
        fail = False

        def __call__(self) -> float:
            if self.fail and asyncio.current_task() is dispatcher():
                raise ArithmeticError("the clock is broken")
            return super().__call__()

    clock, runner = Faulty(), Doubler()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            clock.fail = True
            with pytest.raises(BatchInterrupted):
                await ask(batcher, runner, 1.0)
            await asyncio.sleep(0.01)
            clock.fail = False
            assert (await ask(batcher, runner, 2.0)).output.tolist() == [[4.0]]

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert caplog.text.count("the batch loop died") == 1


def test_an_observer_that_fails_costs_nobody_an_answer_that_is_there(caplog):
    def observer(_: BatchReport) -> None:
        raise LookupError("no such series")

    async def scene() -> None:
        async with running(Batcher(max_batch=4, observer=observer)) as batcher:
            answers = await asyncio.gather(*(ask(batcher, runner, float(n)) for n in range(10)))
            assert [answer.output[0, 0] for answer in answers] == [2.0 * n for n in range(10)]
            assert is_clean(batcher)

    runner = Doubler()
    play(scene)
    assert "no such series" in caplog.text


def test_closing_finishes_what_is_here_and_takes_nothing_new():
    async def scene() -> None:
        batcher = Batcher(max_batch=2)
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

    runner = Doubler()
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
    with pytest.raises(ValueError, match="at least one item"):
        Batcher(max_batch=0)


def test_a_stalled_device_shows_and_an_idle_one_does_not():
    clock, runner = Clock(), Doubler(warm_up=WarmUp(slowest_batch_s=1.0, seconds_per_item=0.1))

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            clock.now_s += 3600  # an hour of rest is no stall
            assert not batcher.stalled()
            first = await runner.hold(batcher)
            assert batcher.busy_since == clock.now_s
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
    clock, runner = Clock(), Doubler(warm_up=WarmUp(slowest_batch_s=8.0, seconds_per_item=1.0))

    async def scene() -> None:
        async with running(Batcher(max_batch=4, clock=clock)) as batcher:
            assert batcher.predicted_wait_s(runner.key, 3) == 0  # nothing is known yet
            batcher.expect([runner])
            assert batcher.predicted_wait_s(runner.key, 3) == 3
            first = await runner.hold(batcher)
            clock.now_s += 0.25
            long = ask(batcher, runner, *range(100))
            await until(lambda: batcher.queue_items == 100)
            assert batcher.drain_s() == pytest.approx(0.75 + 100)
            assert batcher.predicted_wait_s(runner.key, 1) == pytest.approx(0.75 + 4)  # one batch, shared
            assert batcher.predicted_wait_s(runner.key, 50) == pytest.approx(0.75 + 100)
            assert batcher.predicted_wait_s(runner.key, 200) == pytest.approx(0.75 + 300)
            assert batcher.predicted_wait_s("unknown", 1) == pytest.approx(0.75 + 4 + 1)
            runner.go.set()
            await asyncio.gather(first, long)

    play(scene)


def test_the_drain_rate_follows_the_device():
    rate = DrainRate()
    rate.expect("a", 1.0)
    for _ in range(100):
        rate.observe("a", 8, 4.0)

    assert rate.seconds_per_item("a") == pytest.approx(0.5, rel=1e-3)
    rate.expect("a", 9.0)
    assert rate.seconds_per_item("a") == pytest.approx(0.5, rel=1e-3)


def test_reports_tell_sizes_and_the_queue():
    reports: list[BatchReport] = []

    async def scene() -> None:
        async with running(Batcher(max_batch=2, observer=reports.append)) as batcher:
            await ask(batcher, runner, 1.0, 2.0, 3.0)

    runner = Doubler(key="k")
    play(scene)
    assert [(r.runner_key, r.size, r.failed) for r in reports] == [("k", 2, 0), ("k", 1, 0)]
    assert all(report.seconds >= 0 for report in reports)


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


class Hasty(Doubler):
    """Takes a random moment, so that cancellations meet every state."""

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
        time.sleep(random.random() * 0.001)
        return super().run(inputs)


@settings(max_examples=60, deadline=None)
@given(visitors=st.lists(VISITORS, min_size=1, max_size=20), deaths=st.lists(SHORT_S, max_size=2))
def test_whoever_comes_and_leaves_nothing_hangs_is_lost_or_stays(visitors, deaths):
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
        for task in asyncio.all_tasks():  # none, for a moment, where another death has just passed
            if task.get_name() == TASK_NAME:
                task.cancel()

    async def scene() -> None:
        runners = [Hasty("a"), Hasty("b")]
        async with running(Batcher(max_batch=4)) as batcher:
            dying = [asyncio.create_task(die(after_s)) for after_s in deaths]
            results = await asyncio.gather(*(visit(batcher, runners, visitor) for visitor in visitors))
            await asyncio.gather(*dying)
            for visitor, result in zip(visitors, results, strict=True):
                check(visitor, result)
            await until(batcher.idle.is_set)
            assert is_clean(batcher)
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

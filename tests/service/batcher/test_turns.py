"""Who shares a batch with whom, and in which order."""

import asyncio
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import bundle as bundle_format
from service.batcher.batcher import (
    Batcher,
)
from service.runtime.device import Row
from service.runtime.provider_options import CPU
from service.runtime.providers import Providers
from service.runtime.runner import GraphRunner

from .scenes import Clock, Doubler, ask, is_clean, play, running, until, useful


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

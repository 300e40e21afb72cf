"""The golden input runs on every device, whatever these have to do: so it tells whose fault a failed item is."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest import GraphSpec
from service.batcher.batcher import Batcher, BatchItemFailed, DeadlineExceeded
from service.batcher.golden import run_everywhere
from service.bundles.shelf import LoadedBundle
from service.errors import NotReady, ServiceError, UnreadableMedia
from service.predict.pipeline import Pipeline

from .scenes import BAD, Clock, Doubler, ask, is_clean, item, play, running, until, useful


class Lost(Doubler):
    """On this device nothing can be computed."""

    def run(self, *_: object) -> NDArray[np.generic]:  # type: ignore[override]  # it looks at nothing
        raise RuntimeError("CUDA failure 719")


@dataclass
class Pair(Doubler):
    """A graph on two devices, each with a runner of its own."""

    on: Sequence[Doubler] = field(default_factory=lambda: (Doubler(), Doubler()))

    def on_device(self, device: int, *, alone: bool = False) -> Doubler:
        super().on_device(device, alone=alone)
        return self.on[device]


@pytest.mark.parametrize("lost", [0, 1])
def test_one_device_that_fails_is_enough_and_named(lost: int) -> None:
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0, 1))) as batcher:
            with pytest.raises(BatchItemFailed) as raised:
                await run_everywhere(batcher, runner, item(1.0), deadline_s=math.inf)
            assert raised.value.place == f"device {lost}"
            assert str(raised.value.__cause__) == "CUDA failure 719"
            await until(lambda: is_clean(batcher))

    runner = Pair(on=(Lost(), Doubler()) if lost == 0 else (Doubler(), Lost()))
    play(scene)


def test_it_runs_once_on_each_sound_device() -> None:
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 0, 1))) as batcher:
            await run_everywhere(batcher, runner, item(1.0), deadline_s=math.inf)
            assert sorted(runner.devices) == [0, 1]
            assert is_clean(batcher)

    runner = Pair()
    play(scene)


def test_it_comes_before_what_waits_and_is_not_brought_together_with_it() -> None:
    async def scene() -> None:
        async with running(Batcher()) as batcher:
            first = await runner.hold(batcher)
            others = ask(batcher, runner, 1.0, 2.0)
            await until(lambda: batcher.queue_items == 2)
            golden = asyncio.create_task(run_everywhere(batcher, runner, item(9.0), deadline_s=math.inf))
            await asyncio.sleep(0)
            runner.go.set()
            await asyncio.gather(first, others, golden)

    runner = Doubler(warm_up=useful(8))
    play(scene)
    assert runner.batches == [[0.0], [9.0], [1.0, 2.0]]


def test_a_device_that_hangs_with_it_keeps_no_other_from_new_work() -> None:
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1))) as batcher:
            hung.go.clear()
            golden = [
                asyncio.create_task(run_everywhere(batcher, runner, item(1.0), deadline_s=math.inf)) for _ in range(3)
            ]
            await until(lambda: len(batcher.in_hand) == 3 and {batch.device for batch in batcher.in_hand} == {0})
            answers = [await ask(batcher, runner, value) for value in (2.0, 3.0)]
            assert [answer.output.tolist() for answer in answers] == [[[4.0]], [[6.0]]]
            assert not any(task.done() for task in golden)
            hung.go.set()
            await asyncio.gather(*golden)
            assert is_clean(batcher)
            assert batcher.room == 2

    hung = Doubler()
    runner = Pair(on=(hung, Doubler()))
    play(scene)


def test_a_device_that_fails_is_told_of_while_another_hangs() -> None:
    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1))) as batcher:
            hung.go.clear()
            with pytest.raises(BatchItemFailed):
                await run_everywhere(batcher, runner, item(1.0), deadline_s=math.inf)
            await until(lambda: is_clean(batcher))  # the other run was ended, since nobody waited for it

    hung = Doubler()
    runner = Pair(on=(hung, Lost()))
    play(scene)


def test_its_time_is_over_like_that_of_any_other() -> None:
    clock = Clock()

    async def scene() -> None:
        async with running(Batcher(clock=clock)) as batcher:
            runner.go.clear()
            golden = asyncio.create_task(run_everywhere(batcher, runner, item(1.0), deadline_s=clock.now_s + 5))
            await until(runner.entered.is_set)
            clock.now_s += 6
            batcher._time_is_over()
            with pytest.raises(DeadlineExceeded):
                await golden
            with pytest.raises(DeadlineExceeded):
                await run_everywhere(batcher, runner, item(1.0), deadline_s=clock.now_s)
            await until(lambda: is_clean(batcher))

    runner = Doubler()
    play(scene)


def test_an_item_that_fails_by_itself_says_where() -> None:
    async def scene() -> None:
        async with running(Batcher(observer=lambda report: places.append(report.place))) as batcher:
            with pytest.raises(BatchItemFailed, match="item 0 of 1") as raised:
                await ask(batcher, Doubler(), BAD)
            assert raised.value.place == "device 0"

    places: list[str] = []
    play(scene)
    assert places == ["device 0"]


async def blamed(batcher: Batcher, runner: Doubler, lost: list[str]) -> ServiceError:
    """What a caller is told whose item has failed; `lost` is told why the device is given up."""
    nobody = cast("Any", None)
    pipeline = Pipeline(batcher, nobody, nobody, nobody, 1, 1, device_lost=lost.append, answered=nobody)
    key = frozenset({"x"})
    bundle = SimpleNamespace(runners={key: runner}, golden={key: item(1.0)()})
    graph = SimpleNamespace(available=["x"])
    return await pipeline.blame(cast("LoadedBundle", bundle), cast("GraphSpec", graph), math.inf)


def test_a_device_that_fails_is_found_out_although_a_sound_one_has_nothing_to_do() -> None:
    lost: list[str] = []

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1))) as batcher:
            first = await sound.hold(batcher)
            broken = ask(batcher, runner, 2.0)
            await until(lambda: 1 in runner.devices)
            sound.go.set()
            await first
            with pytest.raises(BatchItemFailed) as raised:
                await broken
            assert raised.value.place == "device 1"
            assert batcher.in_hand == []  # so the first device is the next one to be given anything
            assert isinstance(await blamed(batcher, runner, lost), NotReady)

    sound = Doubler()
    runner = Pair(on=(sound, Lost()))
    play(scene)
    assert lost == ["device 1 no longer computes: RuntimeError: CUDA failure 719"]


def test_an_item_that_fails_on_a_sound_device_is_at_fault_itself() -> None:
    lost: list[str] = []

    async def scene() -> None:
        async with running(Batcher(lanes=(0, 1))) as batcher:
            with pytest.raises(BatchItemFailed):
                await ask(batcher, runner, BAD)
            assert isinstance(await blamed(batcher, runner, lost), UnreadableMedia)

    runner = Pair()
    play(scene)
    assert lost == []
    assert [one.batches for one in runner.on] == [[[BAD], [1.0]], [[1.0]]]

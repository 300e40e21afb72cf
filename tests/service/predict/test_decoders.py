import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.lifecycle import Lifecycle
from service.predict.cores import Share
from service.predict.decoders import Decoders
from service.settings import Settings
from service.telemetry.metrics import Telemetry
from service.threads.channel import Abandoned
from service.threads.offload import ended


def test_a_newcomer_waits_for_as_long_as_most_recordings_took() -> None:
    async def waits() -> list[float]:
        decoders, seen, release = Decoders(2), [], threading.Event()
        decoders.recent_s.extend([3.0, 3.0, 500.0])
        tasks = []
        for _ in range(4):
            seen.append(decoders.predicted_wait_s())
            tasks.append(asyncio.create_task(decoders.run(lambda _: release.wait(60), stop=release.set)))
            await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*tasks)
        seen.append(decoders.predicted_wait_s())
        decoders.close()
        return seen

    assert asyncio.run(waits()) == [0.0, 0.0, 1.5, 3.0, 0.0]


def test_a_recording_that_was_given_up_tells_only_that_the_next_one_may_take_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("service.predict.cores.time", SimpleNamespace(monotonic=lambda: clock.now_s))

    async def given_up(decoders: Decoders, after_s: float) -> None:
        begun, stopped = threading.Event(), threading.Event()

        def work(_: Share) -> None:
            clock.now_s += after_s
            begun.set()
            assert stopped.wait(60)
            raise Abandoned

        task = asyncio.create_task(decoders.run(work, stop=stopped.set))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await ended(task)

    async def remembered() -> list[float]:
        def whole(_: Share) -> None:
            clock.now_s += 13.0

        decoders = Decoders(1)
        await given_up(decoders, 5.0)
        await decoders.run(whole, stop=lambda: None)
        await given_up(decoders, 2.0)
        await given_up(decoders, 14.0)
        decoders.close()
        assert decoders.worked_s == 34.0
        return [*decoders.recent_s]

    assert asyncio.run(remembered()) == [5.0, 13.0, 14.0]


@pytest.mark.parametrize(
    ("own_s", "waits_s"),
    [(None, [0.0, 30.0, 60.0, 90.0, 120.0]), (0.1, [0.0, 0.5, 1.0, 1.5, 31.5]), (7.0, [0.0, 7.0, 14.0, 21.0, 51.0])],
)
def test_no_other_delays_a_newcomer_by_more_than_what_it_takes_itself_once_it_is_open(
    own_s: float | None, waits_s: list[float]
) -> None:
    decoders = Decoders(1)
    decoders.recent_s.extend([30.0, 30.0, 30.0])
    assert decoders.places == 4
    predicted_s = []
    for _ in range(5):
        predicted_s.append(decoders.predicted_wait_s(own_s))
        decoders.unfinished[decoders.cores.share()] = None
    decoders.close()

    assert predicted_s == waits_s


@pytest.mark.parametrize(
    ("own_s", "waits_s"), [(None, [0.0, 0.25, 0.5, 0.75, 4.0]), (40.0, [0.0, 20.0, 35.0, 37.5, 65.5])]
)
def test_among_short_recordings_a_long_one_counts_as_what_it_is_predicted_to_take(
    own_s: float | None, waits_s: list[float]
) -> None:
    decoders = Decoders(2)
    decoders.recent_s.extend([0.4, 0.4, 0.4, 90.0])
    decoders.unfinished[decoders.cores.share()] = 60.0
    predicted_s = []
    for known_s in ([60.0], [30.0], [5.0], [14.0, 14.0, 14.0, 14.0], []):
        predicted_s.append(decoders.predicted_wait_s(own_s))
        decoders.unfinished |= {decoders.cores.share(): seconds for seconds in known_s}
    decoders.close()

    assert predicted_s == waits_s


def test_a_recording_that_takes_longer_than_was_predicted_counts_as_what_it_has_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("service.predict.cores.time", SimpleNamespace(monotonic=lambda: clock.now_s))

    async def waits() -> list[float]:
        decoders, steps, release = Decoders(1), asyncio.Queue[float](), threading.Event()
        loop = asyncio.get_running_loop()

        def work(share: Share) -> None:
            for _ in range(3):
                clock.now_s += 8.0
                share.tick()
                loop.call_soon_threadsafe(lambda: steps.put_nowait(decoders.predicted_wait_s(100.0)))
                assert release.wait(60)
                release.clear()

        decoding = asyncio.create_task(decoders.run(work, stop=release.set, own_s=10.0))
        seen = []
        for _ in range(3):
            seen.append(await steps.get())
            release.set()
        await decoding
        seen.append(decoders.predicted_wait_s(100.0))
        decoders.close()
        return seen

    assert asyncio.run(waits()) == [10.0, 16.0, 24.0, 0.0]


def test_what_its_bytes_predict_goes_with_a_recording_to_the_decoders(
    make_client: Callable[..., TestClient], face_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, run = list[float | None](), Decoders.run

    def watched(decoders: Decoders, work: Any, **how: Any) -> Any:
        known.append(how["own_s"])
        return run(decoders, work, **how)

    monkeypatch.setattr(Decoders, "run", watched)
    client = make_client()
    first, _ = (client.post("/predict/pain", files={"video": face_clip}).json() for _ in range(2))

    took_ms = [first["timing_ms"][stage] for stage in ("decode", "face", "inference")]
    assert known == [None, pytest.approx(sum(took_ms) / 1000, abs=1e-5)]


def test_the_time_in_the_queue_and_at_work_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, took = SimpleNamespace(now_s=0.0), list[float]()
    monkeypatch.setattr("service.predict.cores.time", SimpleNamespace(monotonic=lambda: clock.now_s))

    async def second_waits() -> float:
        decoders, both_asked = Decoders(1, took.append), threading.Event()

        def work(_: Share) -> None:
            assert both_asked.wait(60)
            clock.now_s += 0.1

        both = [asyncio.create_task(decoders.run(work, stop=lambda: None)) for _ in range(2)]
        while len(decoders.unfinished) < 2:
            await asyncio.sleep(0)
        both_asked.set()
        (_, first_s), (_, second_s) = await asyncio.gather(*both)
        decoders.close()
        return second_s - first_s

    assert asyncio.run(second_waits()) >= 0.09
    assert len(took) == 2
    assert min(took) >= 0.09


def test_a_recording_counts_as_worked_once_it_is_over(pain_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it worked before would be taken for that of others, who are answered meanwhile."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("service.predict.cores.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    monkeypatch.setattr("service.lifecycle.available_cores", lambda: 2)

    async def worked() -> tuple[float, float]:
        lifecycle = Lifecycle(Settings(bundles=pain_bundle, sandbox="off"), Telemetry(latency_objective_s=0.05))
        running = asyncio.create_task(lifecycle.run())
        while lifecycle.resources is None:
            await asyncio.sleep(0.01)
        decoders, worked_s = lifecycle.resources.pipeline.decoders, lifecycle.resources.admission.work_rate.worked_s

        def work(share: Share) -> float:
            clock.now_s += 3.0
            with share.idle():
                clock.now_s += 50.0
            clock.now_s += 1.0
            return worked_s()

        meanwhile_s, waited_s = await decoders.run(work, stop=lambda: None)
        assert waited_s == 0.0
        after_s = worked_s()
        running.cancel()
        await ended(running)
        return meanwhile_s, after_s

    assert asyncio.run(worked()) == (0.0, 2.0)


def test_a_recording_at_work_that_needs_the_event_loop_does_not_hold_up_the_end(pain_bundle: Path) -> None:
    """A thread that has no room for its next window waits for the loop, which must not wait for the thread."""

    async def end_while_it_waits() -> bool:
        loop, begun, room = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        lifecycle = Lifecycle(Settings(bundles=pain_bundle, sandbox="off"), Telemetry(latency_objective_s=0.05))
        running = asyncio.create_task(lifecycle.run())
        while lifecycle.resources is None:
            await asyncio.sleep(0.01)
        decoders = lifecycle.resources.pipeline.decoders
        shut_down = decoders.executor.shutdown

        def shut_down_and_give_room() -> None:
            loop.call_soon_threadsafe(room.set)
            shut_down()

        def work(_: Share) -> bool:
            loop.call_soon_threadsafe(begun.set)
            return room.wait(5)

        decoders.executor.shutdown = shut_down_and_give_room  # type: ignore[method-assign]
        decoding = asyncio.create_task(decoders.run(work, stop=room.set))
        await begun.wait()
        running.cancel()
        await ended(running)
        return (await decoding)[0]

    assert asyncio.run(end_while_it_waits())

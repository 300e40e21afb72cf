"""Who gets a core: short recordings before long ones, and nobody never."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from service.predict.cores import FIRST_STEP_S, TOLD_S, TURN_S, Cores
from service.threads.channel import Abandoned


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    now = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr("service.predict.cores.time", SimpleNamespace(monotonic=lambda: now.now_s))
    return now


class Recording:
    """A recording with a thread of its own, which does one step of its work at a time."""

    def __init__(self, cores: Cores, events: list[str], name: str) -> None:
        self.share, self.events, self.name = cores.share(), events, name
        self.thread: threading.Thread | None = None

    def begins(self) -> "Recording":
        self.does(self.share.take)
        return self

    def ticks(self) -> "Recording":
        self.does(self.share.tick)
        return self

    def does(self, step: object) -> None:
        """Begin a step; over when it has a core, or stands in the line for one."""

        def run() -> None:
            try:
                step()  # type: ignore[operator]
                self.events.append(self.name)
            except Abandoned:
                self.events.append(f"{self.name} abandoned")

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        while self.thread.is_alive() and self.share not in self.share.cores.waiting:
            self.thread.join(0.001)

    def goes_on(self) -> None:
        assert self.thread is not None
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_a_short_recording_takes_the_core_of_a_long_one_between_two_packets(clock: SimpleNamespace) -> None:
    events, took = list[str](), list[float]()
    cores = Cores(1, took.append)
    long = Recording(cores, events, "long").begins()
    clock.now_s += 30.0
    short = Recording(cores, events, "short").begins()
    assert events == ["long"]

    long.ticks()
    short.goes_on()
    assert events == ["long", "short"]
    assert long.share in cores.waiting
    clock.now_s += 0.2
    short.share.leave()
    long.goes_on()

    assert events == ["long", "short", "long"]
    assert took == pytest.approx([30.0, 0.2])
    assert (long.share.waited_s, short.share.waited_s) == pytest.approx((0.2, 0.0))
    assert long.share.clock() == pytest.approx(130.0)


def test_every_second_core_goes_to_who_came_first(clock: SimpleNamespace) -> None:
    events = list[str]()
    cores = Cores(1, lambda _: None)
    long = Recording(cores, events, "long").begins()
    clock.now_s += 30.0
    first, second, third, fourth = (Recording(cores, events, f"{n}").begins() for n in range(4))
    long.ticks()
    first.goes_on()
    first.share.leave()
    second.goes_on()
    second.share.leave()
    long.goes_on()
    assert events == ["long", "0", "1", "long"]

    clock.now_s += 0.9 * TURN_S
    long.ticks().goes_on()
    assert events[4:] == ["long"]
    clock.now_s += 0.2 * TURN_S
    long.ticks()
    third.goes_on()
    third.share.leave()
    long.goes_on()
    assert events[5:] == ["2", "long"]
    clock.now_s += 2 * TURN_S
    long.ticks()
    fourth.goes_on()


def test_a_short_one_is_not_interrupted_and_short_ones_come_in_their_order(clock: SimpleNamespace) -> None:
    events = list[str]()
    cores = Cores(1, lambda _: None)
    first, second, third = (Recording(cores, events, name).begins() for name in ("first", "second", "third"))
    clock.now_s += 0.9 * FIRST_STEP_S
    first.ticks().goes_on()
    assert events == ["first", "first"]
    first.share.leave()
    second.goes_on()
    second.share.leave()
    third.goes_on()
    assert events == ["first", "first", "second", "third"]


def test_who_has_used_less_goes_first_in_steps_that_double(clock: SimpleNamespace) -> None:
    cores = Cores(1, lambda _: None)
    used_s = (0.0, 0.49, 0.5, 0.99, 1.0, 1.9, 2.0, 4.0, 8.0, 15.9, 16.0, 600.0)
    shares = [cores.share() for _ in used_s]
    for share, seconds in zip(shares, used_s, strict=True):
        share.used_s = seconds
    assert [share.step for share in shares] == [0, 0, 1, 1, 2, 2, 3, 4, 5, 5, 6, 6]

    events = list[str]()
    first = Recording(cores, events, "first").begins()
    clock.now_s += 3.0
    second = Recording(cores, events, "second").begins()
    first.ticks()
    second.goes_on()
    clock.now_s += 1.9
    second.ticks().goes_on()
    assert events == ["first", "second", "second"]
    clock.now_s += 0.2  # as much as the first one has used, by and large
    second.ticks()
    first.goes_on()
    clock.now_s += 0.9
    first.ticks().goes_on()
    clock.now_s += 0.2
    first.ticks()
    second.goes_on()

    assert events[3:] == ["first", "first", "second"]


def test_who_waits_for_something_else_leaves_the_core_meanwhile(clock: SimpleNamespace) -> None:
    events = list[str]()
    cores = Cores(1, lambda _: None)
    one, other = (Recording(cores, events, name).begins() for name in ("one", "other"))
    with one.share.idle():
        other.goes_on()
        clock.now_s += 3.0
        other.share.leave()

    assert events == ["one", "other"]
    assert one.share.since_s == clock.now_s
    assert one.share.used_s == one.share.waited_s == 0.0


def test_of_a_recording_that_keeps_its_core_is_told_what_it_used_so_far(clock: SimpleNamespace) -> None:
    told = list[float]()
    cores = Cores(1, told.append)
    share = cores.share()
    share.take()
    for _ in range(5):
        clock.now_s += 0.75 * TOLD_S
        share.tick()
    assert told == pytest.approx([1.5 * TOLD_S, 1.5 * TOLD_S])
    share.leave()
    with_none = cores.share()
    with_none.leave()

    assert told == pytest.approx([1.5 * TOLD_S, 1.5 * TOLD_S, 0.75 * TOLD_S])


def test_who_is_stopped_while_it_waits_leaves_the_line(clock: SimpleNamespace) -> None:  # noqa: ARG001 - stands still
    events = list[str]()
    cores = Cores(1, lambda _: None)
    one, other = (Recording(cores, events, name).begins() for name in ("one", "other"))
    other.share.stop()
    other.goes_on()
    other.share.leave()
    assert events == ["one", "other abandoned"]
    assert (cores.waiting, cores.free) == ([], 0)

    one.share.leave()
    one.share.leave()
    assert cores.free == 1

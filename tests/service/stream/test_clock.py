"""Capture times, and when windows are complete."""

import pytest

from service.errors import MalformedRequest, Overloaded
from service.stream.clock import Clock

HOUR_US = 3_600_000_000


def test_times_count_from_the_first_medium_and_may_go_back_before_it() -> None:
    clock = Clock(window_s=2.0, hop_s=1.0)

    assert clock.place(HOUR_US) == 0.0
    assert clock.place(HOUR_US + 250_000) == 0.25
    assert clock.place(HOUR_US - 100_000) == -0.1


def test_the_largest_time_keeps_its_microseconds() -> None:
    clock = Clock(window_s=2.0, hop_s=1.0)
    clock.place(2**64 - 1 - 2_000_001)

    assert clock.place(2**64 - 1) == 2.000001


@pytest.mark.parametrize("captured_us", [HOUR_US + 30_000_001, HOUR_US - 30_000_001, 0, 2**64 - 1])
def test_a_jump_of_more_than_thirty_seconds_is_refused(captured_us: int) -> None:
    clock = Clock(window_s=2.0, hop_s=1.0)
    clock.place(HOUR_US)

    with pytest.raises(MalformedRequest, match="jumps"):
        clock.place(captured_us)


def test_steps_of_thirty_seconds_are_taken() -> None:
    clock = Clock(window_s=2.0, hop_s=10.0)
    for n in range(3):
        assert clock.place(HOUR_US + n * 30_000_000) == 30.0 * n
        clock.arrived(30.0 * n, now_s=0.0)
        while clock.reached:
            clock.complete_since(0.0)


def test_a_window_is_complete_when_the_first_medium_reaches_its_end() -> None:
    clock = Clock(window_s=2.0, hop_s=1.0)
    for end_s, now_s in ((0.0, 10.0), (1.9, 11.9), (2.0, 12.0), (2.5, 12.5), (4.1, 14.1)):
        clock.arrived(end_s, now_s)

    assert [clock.complete_since(99.0) for _ in range(4)] == [12.0, 14.1, 14.1, 99.0]


def test_answers_that_are_a_minute_behind_end_the_stream() -> None:
    clock = Clock(window_s=2.0, hop_s=1.0)
    for second in range(62):
        clock.arrived(float(second), now_s=0.0)
    assert len(clock.reached) == 60
    clock.arrived(62.0, now_s=0.0)

    with pytest.raises(Overloaded, match="60 s behind"):
        clock.arrived(63.0, now_s=0.0)

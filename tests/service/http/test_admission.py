import pytest

from service.admission import Admission
from service.errors import Overloaded


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def admission(clock: Clock | None = None, queued_s: float = 0.0, jitter: float = 0.0) -> Admission:
    return Admission(
        max_requests=2,
        max_spool_bytes=1000,
        max_queue_s=10.0,
        queued_s=lambda: queued_s,
        jitter=lambda: jitter,
        clock=clock or Clock(),
    )


def retry_after_s(error: Overloaded) -> int:
    return int(error.headers["retry-after"])


def test_the_place_over_the_limit_is_refused_and_free_again_later() -> None:
    gate = admission()
    with gate.place(0), gate.place(0), pytest.raises(Overloaded), gate.place(0):
        pass

    with gate.place(0):
        assert gate.at_work == 1


def test_bytes_are_taken_at_the_headers_and_given_back() -> None:
    gate = admission()
    with gate.place(600) as place:
        place.cover(500)
        assert gate.spool_bytes == 600
        place.cover(700)
        assert gate.spool_bytes == 700
        with pytest.raises(Overloaded), gate.place(301):
            pass
        assert gate.at_work == 1
    assert gate.spool_bytes == 0


def test_everything_is_given_back_after_an_error() -> None:
    gate = admission()
    with pytest.raises(Overloaded), gate.place(10) as place:
        place.cover(1001)

    assert (gate.at_work, gate.spool_bytes) == (0, 0)


def test_a_queue_beyond_the_limit_is_refused_for_as_long_as_it_is_too_long() -> None:
    with pytest.raises(Overloaded) as refused, admission(queued_s=25.0).place(0):
        pass

    assert retry_after_s(refused.value) == 15


def test_retry_after_follows_the_measured_time_of_a_request() -> None:
    clock = Clock()
    gate = admission(clock)
    for _ in range(100):
        with gate.place(0):
            clock.now_s += 20.0
    with gate.place(0), gate.place(0), pytest.raises(Overloaded) as refused, gate.place(0):
        pass

    assert retry_after_s(refused.value) == 10  # two places, each free after 20 s


def test_jitter_spreads_those_who_come_back() -> None:
    waits = set()
    for jitter in (0.0, 0.5, 0.99):
        with pytest.raises(Overloaded) as refused, admission(queued_s=30.0, jitter=jitter).place(0):
            pass
        waits.add(retry_after_s(refused.value))

    assert waits == {20, 30, 40}

"""What is weighed at the headers: places, bytes, and the work to come."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from service.errors import Overloaded
from service.uploads.admission import Admission
from service.uploads.work_rate import Kind

MEBIBYTE = 1 << 20
PAIN = Kind("pain", "graph", decodes=True)
VALENCE_AROUSAL = Kind("valence-arousal", "graph", decodes=True)
TENSORS = Kind("/v2 pain", "graph", decodes=False)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def admission(
    clock: Clock | None = None,
    queued_s: Callable[[], float] = lambda: 0.0,
    worked_s: Callable[[], float] = lambda: 0.0,
    jitter: float = 0.0,
    max_spool_bytes: int = 1000,
) -> Admission:
    return Admission(
        max_requests=2,
        max_spool_bytes=max_spool_bytes,
        max_queue_s=10.0,
        queued_s=lambda *_: queued_s(),
        worked_s=worked_s,
        jitter=lambda: jitter,
        clock=clock or Clock(),
    )


def retry_after_s(error: Overloaded) -> int:
    return int(error.headers["retry-after"])


def test_the_place_over_the_limit_is_refused_and_free_again_later() -> None:
    gate = admission()
    with gate.place(PAIN, 0), gate.place(PAIN, 0), pytest.raises(Overloaded), gate.place(PAIN, 0):
        pass

    with gate.place(PAIN, 0):
        assert gate.at_work == 1


def test_one_who_is_expected_gets_a_place_beyond_the_limit_if_its_bytes_fit() -> None:
    gate = admission()
    with gate.place(PAIN, 600), gate.place(PAIN, 0):
        with gate.place(PAIN, 400, expected=True):
            assert (gate.at_work, gate.spool_bytes) == (3, 1000)
        with pytest.raises(Overloaded, match="the uploads at work hold 600"), gate.place(PAIN, 401, expected=True):
            pass
        with pytest.raises(Overloaded, match="2 requests are at work"), gate.place(PAIN, 0):
            pass


def test_no_more_are_expected_than_there_are_places_for_those_they_join() -> None:
    gate = admission()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(gate.place(PAIN, 0, expected=True))
        with pytest.raises(Overloaded, match="4 requests are at work"), gate.place(PAIN, 0, expected=True):
            pass


def test_bytes_are_taken_at_the_headers_and_given_back() -> None:
    gate = admission()
    with gate.place(PAIN, 600) as place:
        place.cover(500)
        assert gate.spool_bytes == 600
        place.cover(700)
        assert gate.spool_bytes == 700
        with pytest.raises(Overloaded), gate.place(PAIN, 301):
            pass
        assert gate.at_work == 1
    assert gate.spool_bytes == 0


def test_a_body_of_unknown_length_takes_a_mebibyte_at_a_time() -> None:
    gate = admission(max_spool_bytes=2 * MEBIBYTE + 10)
    with gate.place(PAIN, None) as place:
        taken = [gate.spool_bytes]
        for total in (MEBIBYTE, MEBIBYTE + 1, 2 * MEBIBYTE, 2 * MEBIBYTE + 1):
            place.cover(total)
            taken.append(gate.spool_bytes)
        with pytest.raises(Overloaded):
            place.cover(2 * MEBIBYTE + 11)

    assert taken == [MEBIBYTE, MEBIBYTE, 2 * MEBIBYTE, 2 * MEBIBYTE, 2 * MEBIBYTE + 10]
    assert gate.spool_bytes == 0


def test_everything_is_given_back_after_an_error() -> None:
    gate = admission()
    with pytest.raises(Overloaded), gate.place(PAIN, 10) as place:
        place.cover(1001)

    assert (gate.at_work, gate.spool_bytes, gate.coming_s(PAIN, None)) == (0, 0, 0)


def test_a_queue_beyond_the_limit_is_refused_for_as_long_as_it_is_too_long() -> None:
    with pytest.raises(Overloaded) as refused, admission(queued_s=lambda: 25.0).place(PAIN, 0):
        pass

    assert retry_after_s(refused.value) == 15


def test_retry_after_follows_the_measured_time_of_a_request() -> None:
    clock = Clock()
    gate = admission(clock)
    for _ in range(100):
        with gate.place(PAIN, 0):
            clock.now_s += 20.0
    with gate.place(PAIN, 0), gate.place(PAIN, 0), pytest.raises(Overloaded) as refused, gate.place(PAIN, 0):
        pass

    assert retry_after_s(refused.value) == 10  # two places, each free after 20 s


def test_retry_after_tells_when_enough_bytes_will_be_free() -> None:
    clock = Clock()
    gate = admission(clock)
    for _ in range(100):
        with gate.place(PAIN, 0):
            clock.now_s += 20.0
    with gate.place(PAIN, 800), pytest.raises(Overloaded) as refused, gate.place(PAIN, 400):
        pass

    assert retry_after_s(refused.value) == 5  # 800 bytes are given back in 20 s; 200 are missing


def test_jitter_spreads_those_who_come_back() -> None:
    waits = set()
    for jitter in (0.0, 0.5, 0.99):
        with pytest.raises(Overloaded) as refused, admission(queued_s=lambda: 30.0, jitter=jitter).place(PAIN, 0):
            pass
        waits.add(retry_after_s(refused.value))

    assert waits == {20, 30, 40}


class Worker:
    """Seconds that the device and the decoders have worked."""

    def __init__(self) -> None:
        self.worked_s = 0.0

    def answer(self, gate: Admission, kind: Kind, size: int, seconds: float) -> None:
        with gate.place(kind, size) as place:
            place.arrived()
            self.worked_s += seconds
            place.answered({"decode": seconds, "queue": 99.0})


def test_uploads_on_their_way_count_with_the_work_that_their_like_have_brought() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    worker.answer(gate, PAIN, 100, 6.0)

    with gate.place(PAIN, 100), gate.place(PAIN, 50):
        assert gate.coming_s(PAIN, None) == pytest.approx(9.0)
    worker.answer(gate, PAIN, 200, 12.0)
    with gate.place(PAIN, 200), pytest.raises(Overloaded) as refused, gate.place(PAIN, 200):
        pass

    assert retry_after_s(refused.value) == 2
    assert gate.coming_s(PAIN, None) == 0


def test_no_upload_keeps_another_waiting_for_longer_than_that_one_works() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    worker.answer(gate, PAIN, 200, 12.0)

    with gate.place(PAIN, 200), gate.place(PAIN, 5):
        assert gate.coming_s(PAIN, 5) == pytest.approx(0.6)
        assert gate.coming_s(PAIN, None) == pytest.approx(12.3)
    with gate.place(PAIN, 200), pytest.raises(Overloaded), gate.place(PAIN, None):
        pass  # how much it brings is not known


def test_a_newcomer_is_judged_by_its_kind_and_by_what_it_takes_itself() -> None:
    asked = []
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    gate.queued_s = lambda kind, own_s: asked.append((kind.name, own_s)) or 0.0
    worker.answer(gate, PAIN, 100, 6.0)
    asked.clear()

    with gate.place(PAIN, 50) as place:
        place.arrived()
    with gate.place(VALENCE_AROUSAL, 50), gate.place(VALENCE_AROUSAL, None):
        pass

    assert asked == [("pain", 3.0), ("pain", 3.0), ("valence-arousal", None), ("valence-arousal", None)]


def test_a_newcomer_has_one_core_and_uploads_on_their_way_have_all() -> None:
    """Eight recordings side by side, each of which keeps its core for 30 s, are over after 30 s."""
    asked = []
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    gate.queued_s = lambda _, own_s: asked.append(own_s) or 0.0
    for _ in range(8):
        with gate.place(PAIN, 100) as place:
            worker.worked_s += 30.0 / 8
            place.answered({"decode": 20.0, "face": 10.0})
    asked.clear()

    with gate.place(PAIN, 100), gate.place(PAIN, 50):
        assert gate.coming_s(PAIN, None) == pytest.approx(3.75 + 1.875)
        assert gate.coming_s(PAIN, 20) == pytest.approx(2 * 0.75)
    assert asked == pytest.approx([30.0, 15.0])


def test_tensors_do_not_wait_for_recordings_on_their_way() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    worker.answer(gate, PAIN, 100, 60.0)

    with gate.place(PAIN, 100), gate.place(TENSORS, 100):
        assert gate.coming_s(TENSORS, None) == 0.0
        assert gate.coming_s(PAIN, None) == pytest.approx(60.0)
    worker.answer(gate, TENSORS, 100, 0.5)
    with gate.place(TENSORS, 100):
        assert gate.coming_s(TENSORS, None) == gate.coming_s(PAIN, None) > 0.0


def test_another_kind_of_request_is_not_judged_by_this_one() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    worker.answer(gate, PAIN, 100, 6.0)

    with gate.place(VALENCE_AROUSAL, 100):
        assert gate.coming_s(PAIN, None) == 0


def test_a_large_upload_is_not_expected_to_bring_more_than_any_has_brought() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s, max_spool_bytes=10_000)
    worker.answer(gate, PAIN, 100, 6.0)

    with gate.place(PAIN, 10_000):
        assert gate.coming_s(PAIN, None) == pytest.approx(6.0)


def test_a_body_of_unknown_length_counts_more_as_it_grows() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s, max_spool_bytes=10 * MEBIBYTE)
    worker.answer(gate, PAIN, 4 * MEBIBYTE, 8.0)

    with gate.place(PAIN, None) as place:
        coming = []
        for total in (1, MEBIBYTE, 2 * MEBIBYTE):
            place.cover(total)
            coming.append(gate.coming_s(PAIN, None))

    assert coming == pytest.approx([2 / MEBIBYTE, 2 / MEBIBYTE, 4.0])


def test_work_that_a_batch_shared_counts_once() -> None:
    worker = Worker()
    gate = admission(worked_s=lambda: worker.worked_s)
    for _ in range(200):  # two requests in each batch of 4 s
        with gate.place(PAIN, 100) as first, gate.place(PAIN, 100) as second:
            first.arrived()
            second.arrived()
            worker.worked_s += 4.0
            first.answered({"inference": 4.0})
            second.answered({"inference": 4.0})

    with gate.place(PAIN, 100):
        assert gate.coming_s(PAIN, None) == pytest.approx(2.0, rel=0.1)


def test_a_whole_upload_is_refused_only_where_the_queue_grew_unforeseen() -> None:
    queue = {"s": 10.0}
    gate = admission(queued_s=lambda: queue["s"])
    with gate.place(PAIN, 100) as place:
        queue["s"] = 14.0
        place.arrived()
        queue["s"] = 16.0
        with pytest.raises(Overloaded):
            place.arrived()

    assert (gate.at_work, gate.spool_bytes, gate.coming_s(PAIN, None)) == (0, 0, 0)

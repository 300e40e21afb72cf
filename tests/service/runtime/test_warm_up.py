"""Which batches are worth forming, from times that were made up."""

import pytest

from service.runtime.warm_up import BatchTime, WarmUp, in_turns


def measured(*times: tuple[int, float], padded: bool = False) -> WarmUp:
    return WarmUp(9.0, tuple(BatchTime(*time) for time in times), padded)


@pytest.mark.parametrize(
    ("times", "useful"),
    [
        ([(1, 1.0), (2, 2.0), (4, 4.4)], 1),
        ([(1, 1.0), (2, 1.95)], 1),
        ([(1, 1.0), (2, 1.8), (4, 3.5)], 2),
        ([(1, 5.0), (2, 5.1), (4, 5.4), (8, 6.0), (16, 7.0), (32, 14.1)], 16),
    ],
)
def test_the_smallest_batch_within_five_per_cent_of_the_best_is_useful(times, useful):
    assert measured(*times).useful_batch == useful


def test_without_times_items_run_alone():
    assert (WarmUp().useful_batch, WarmUp().seconds_per_item, WarmUp().batch_s(7)) == (1, 0.0, 0.0)
    assert WarmUp().best_batch(100, 1.0) == 1


def test_a_padded_batch_takes_as_long_as_the_bucket_it_is_padded_to():
    warm_up = measured((1, 1.0), (2, 1.5), (4, 2.0), padded=True)

    assert [warm_up.batch_s(n) for n in (1, 2, 3, 4, 8)] == [1.0, 1.5, 2.0, 2.0, 4.0]


@pytest.mark.parametrize(("waiting", "formed"), [(8, 8), (9, 8), (12, 8), (15, 15), (16, 16), (40, 16)])
def test_a_batch_is_not_padded_where_a_full_smaller_bucket_is_faster_an_item(waiting, formed):
    warm_up = measured((1, 4.0), (2, 4.2), (4, 4.6), (8, 5.4), (16, 9.8), padded=True)

    assert warm_up.best_batch(waiting, 100.0) == formed


def test_a_batch_fits_into_its_limit_where_it_can():
    warm_up = measured((1, 1.0), (8, 4.5))

    assert [warm_up.best_batch(8, limit_s) for limit_s in (9.0, 4.5, 3.1, 1.0, 0.1)] == [8, 8, 5, 1, 1]


@pytest.mark.parametrize("drift", [0.97, 1.03])
def test_a_machine_that_becomes_faster_or_slower_meanwhile_makes_no_batch_useful(drift):
    runs: list[int] = []

    def timed(size: int) -> float:
        runs.append(size)
        return 0.01 * size * drift ** len(runs)

    took = in_turns(timed, (1, 2, 4))

    assert (took.useful_batch, set(runs)) == (1, {1, 2})


def test_one_run_that_the_machine_held_up_decides_nothing():
    runs: list[int] = []

    def timed(size: int) -> float:
        runs.append(size)
        return 0.5 if len(runs) == 5 else 0.01 * size

    took = in_turns(timed, (1, 2, 4))

    assert (took.useful_batch, took.slowest_batch_s) == (1, 0.5)
    assert took.times == (BatchTime(1, 0.01), BatchTime(2, pytest.approx(0.02)))

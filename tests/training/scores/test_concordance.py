"""Pooled CCC from people's moments against the CCC of all frames at once."""

import numpy as np
import pytest

from training.scores.concordance import person_moments, pooled_ccc
from training.scores.metrics import ccc_score


def drawn(offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    person = np.repeat(["c", "a", "b"], [4, 7, 2])
    truth = offset + rng.normal(size=13)
    return truth + 0.5 * rng.normal(size=13), truth, person


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_pooled_ccc_is_that_of_all_frames(offset: float) -> None:
    values, truth, person = drawn(offset)

    pooled = pooled_ccc(np.ones((1, 3)), person_moments(values, truth, person))

    assert pooled[0] == pytest.approx(ccc_score(values - offset, truth - offset), rel=1e-7)


def test_a_weight_of_two_is_a_person_twice_and_of_none_a_person_left_out() -> None:
    values, truth, person = drawn()
    rows = np.concatenate([np.flatnonzero(person == "a"), np.flatnonzero(person == "c"), np.flatnonzero(person == "c")])

    pooled = pooled_ccc(np.array([[1.0, 0.0, 2.0]]), person_moments(values, truth, person))

    assert pooled[0] == pytest.approx(ccc_score(values[rows], truth[rows]))


def test_leading_axes_are_averaged_after_the_ccc() -> None:
    values, truth, person = drawn()
    other = np.random.default_rng(1).normal(size=13)
    moments = np.stack([person_moments(v, truth, person) for v in (values, other)])

    pooled = pooled_ccc(np.ones((1, 3)), moments)

    assert pooled[0] == pytest.approx(0.5 * (ccc_score(values, truth) + ccc_score(other, truth)))


def test_two_constants_have_a_ccc_of_zero() -> None:
    moments = person_moments(np.zeros(4), np.zeros(4), np.array([0, 0, 1, 1]))

    assert pooled_ccc(np.ones((1, 2)), moments).tolist() == [0.0]

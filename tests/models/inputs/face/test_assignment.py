"""The assignment against scipy's, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from models.inputs.face.assignment import assign

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 12))


def test_the_best_pair_is_given_up_where_the_others_gain_more():
    assert assign([[0.9, 0.8], [0.8, 0.1]]) == [(0, 1), (1, 0)]  # 1.6 and not 1.0


def test_what_must_not_be_paired_stays_alone():
    assert assign([[0.0, 0.7], [-1.0, 0.9]]) == [(1, 1)]


@pytest.mark.parametrize("nothing", [[], [[], []]])
def test_nobody_is_paired_with_nobody(nothing):
    assert assign(nothing) == []


def total(scores, pairs):
    return sum(max(float(scores[row, column]), 0.0) for row, column in pairs)


@given(arrays.arrays(np.float64, SHAPES, elements=st.floats(-1, 3)))
def test_the_sum_is_the_largest_there_is(scores):
    rows, columns = linear_sum_assignment(np.maximum(scores, 0), maximize=True)

    found = assign(scores.tolist())

    assert total(scores, found) == pytest.approx(total(scores, zip(rows, columns, strict=True)))
    assert len({row for row, _ in found}) == len({column for _, column in found}) == len(found)
    assert all(scores[pair] > 0 for pair in found)


@pytest.mark.parametrize("seed", range(20))
def test_without_ties_the_pairs_are_scipys(seed):
    scores = np.random.default_rng(seed).random((7, 9))

    assert assign(scores.tolist()) == list(zip(*(x.tolist() for x in linear_sum_assignment(scores, True)), strict=True))

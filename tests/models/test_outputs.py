"""Answers from logits, against numbers worked out by hand or by another method."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.manifest import Calibration
from models.outputs import (
    answer_affect,
    answer_pain,
    conformal_intervals,
    conformal_sets,
    corn_probabilities,
    label_scores,
    softmax_probabilities,
    value_scores,
)

LEVELS = ("BL1", "PA1", "PA2")
WITHOUT = Calibration(quantiles={"pain": None}, people=0, windows=0, reason="Nobody was left.")


def calibrated(**quantiles: float) -> Calibration:
    return Calibration(quantiles=dict(quantiles), people=20, windows=800)


def test_corn_multiplies_conditional_chances():
    # P(y>0) = 0.8, P(y>1 | y>0) = 0.25, so P = 0.2, 0.6, 0.2
    logits = np.array([[math.log(0.8 / 0.2), math.log(0.25 / 0.75)]])

    np.testing.assert_allclose(corn_probabilities(logits), [[0.2, 0.6, 0.2]], rtol=1e-12)


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-1e300, 1e300)))
def test_corn_gives_probabilities_for_any_finite_logits(logits):
    probabilities = corn_probabilities(logits)

    assert probabilities.shape == (len(logits), logits.shape[1] + 1)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-9)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 6)), elements=st.floats(-1e300, 1e300)),
    st.floats(0.05, 20.0),
)
def test_softmax_gives_probabilities_for_any_finite_logits(logits, temperature):
    probabilities = softmax_probabilities(logits, temperature)

    assert probabilities.shape == logits.shape
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-9)


def test_softmax_by_hand():
    logits = np.array([[math.log(1), math.log(2), math.log(5)]], np.float32)

    np.testing.assert_allclose(softmax_probabilities(logits), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)


def test_a_temperature_divides_the_logits():
    logits = np.array([[1.0, -3.0, 0.5]])

    np.testing.assert_allclose(softmax_probabilities(logits, 2.0), softmax_probabilities(logits / 2), rtol=1e-12)
    np.testing.assert_allclose(corn_probabilities(logits, 0.5), corn_probabilities(logits * 2), rtol=1e-12)


def test_pain_names_the_likeliest_level_and_the_mean_index():
    logits = np.array([[math.log(0.8 / 0.2), math.log(0.25 / 0.75)]], np.float32)

    (answer,) = answer_pain(logits, LEVELS, WITHOUT)

    assert answer is not None
    assert answer.level == "PA1"
    assert answer.expected == pytest.approx(0.6 * 1 + 0.2 * 2)
    assert answer.probabilities == pytest.approx({"BL1": 0.2, "PA1": 0.6, "PA2": 0.2})
    assert answer.conformal_set is None


@pytest.mark.parametrize(
    ("quantile", "expected"),
    [(0.1, ["PA1"]), (0.39, ["PA1"]), (0.41, ["PA1"]), (0.79, ["PA1"]), (0.81, ["BL1", "PA1", "PA2"])],
)
def test_the_conformal_set_holds_levels_within_the_quantile_and_never_nothing(quantile, expected):
    logits = np.array([[math.log(0.8 / 0.2), math.log(0.25 / 0.75)]])

    (answer,) = answer_pain(logits, LEVELS, calibrated(pain=quantile))

    assert answer is not None
    assert answer.conformal_set == expected


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_gives_no_answer_and_spares_its_neighbours(broken):
    logits = np.array([[0.0, 0.0], [broken, 0.0], [0.0, broken]], np.float32)
    values = np.array([[0.1, 0.2], [broken, 0.0], [0.0, broken]], np.float32)

    pain = answer_pain(logits, LEVELS, WITHOUT)
    affect = answer_affect(values, calibrated(valence=0.1, arousal=0.1))

    assert [answer is None for answer in pain] == [False, True, True]
    assert [answer is None for answer in affect] == [False, True, True]


def test_intervals_lie_around_the_value_and_inside_the_range():
    answers = answer_affect(np.array([[0.5, -0.95], [1.5, 0.0]]), calibrated(valence=0.3, arousal=0.2))

    assert answers[0] is not None
    assert answers[1] is not None
    assert answers[0][0].value == 0.5
    assert answers[0][0].interval == pytest.approx((0.2, 0.8))
    assert answers[0][1].interval == pytest.approx((-1.0, -0.75))
    assert answers[1][0].value == 1.0
    assert answers[1][0].interval == pytest.approx((0.7, 1.0))


def test_an_answer_uses_the_calibrations_temperature():
    # logits for 0.8 and 0.2 are halved: 0.8 becomes 1 / (1 + 1/2) = 2/3
    warm = Calibration(quantiles={"pain": None}, temperature=2.0, people=0, windows=0, reason="Few.")

    (answer,) = answer_pain(np.array([[math.log(0.8 / 0.2)]]), ("BL1", "PA4"), warm)

    assert answer is not None
    assert answer.probabilities["PA4"] == pytest.approx(2 / 3)
    assert answer.conformal_set is None


def test_without_a_quantile_there_is_a_value_and_no_interval():
    calibration = Calibration(quantiles={"valence": None, "arousal": 0.2}, people=3, windows=9, reason="Few people.")

    (answer,) = answer_affect(np.array([[0.5, 0.5]]), calibration)

    assert answer is not None
    assert (answer[0].interval, answer[1].interval) == (None, pytest.approx((0.3, 0.7)))


def test_scores_are_one_minus_the_true_labels_probability_and_the_absolute_error():
    probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])

    np.testing.assert_allclose(label_scores(probabilities, np.array([1, 1])), [0.2, 0.7])
    np.testing.assert_allclose(value_scores(np.array([0.5, -0.5]), np.array([0.25, 0.5])), [0.25, 1.0])


def test_sets_and_intervals_of_many_windows_are_those_of_the_answers():
    probabilities = np.array([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])

    assert conformal_sets(probabilities, 0.75).tolist() == [[False, True, False], [True, True, True]]
    assert conformal_intervals(np.array([0.5, -3.0]), 0.7, (-1.0, 1.0)).tolist() == pytest.approx(
        np.array([[-0.2, 1.0], [-1.0, -0.3]])
    )
    assert conformal_intervals(np.array([30.0]), 2.0).tolist() == [[28.0, 32.0]]

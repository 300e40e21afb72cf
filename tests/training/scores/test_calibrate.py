"""Temperatures and conformal quantiles: closed forms, hand counts, and what they promise on drawn people."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from models.outputs import conformal_intervals, conformal_sets, corn_probabilities, softmax_probabilities
from training.scores.calibrate import (
    OutOfFold,
    conformal_calibration,
    expected_calibration_error,
    fit_temperature,
    hierarchical_quantile,
    interval_coverage,
    nll,
    people_needed,
    pooled_quantile,
    set_coverage,
)
from training.stages.calibration import calibrate
from training.stages.setting import Setting


def test_a_two_way_temperature_has_a_closed_form() -> None:
    # logit 3 for what is right in three of four cases: sigmoid(3 / T) = 3/4 at T = 3 / ln 3
    labels = np.array([1, 1, 1, 0])
    two_logits = np.tile([0.0, 3.0], (4, 1))
    one_logit = np.full((4, 1), 3.0)  # CORN with two levels

    for fit in (fit_temperature(two_logits, labels, "classification"), fit_temperature(one_logit, labels, "pain")):
        assert fit.temperature == pytest.approx(3.0 / np.log(3.0), rel=1e-4)
        assert fit.nll_after == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
        assert fit.ece_before == pytest.approx(1 / (1 + np.exp(-3.0)) - 0.75)
        assert fit.ece_after == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("task", ["pain", "classification"])
def test_the_temperature_that_spoilt_the_logits_is_found_again(task) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (20_000, 4))
    probabilities = corn_probabilities(logits) if task == "pain" else softmax_probabilities(logits)
    labels = (rng.random((len(logits), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)

    fit = fit_temperature(2.5 * logits, labels, task)

    assert fit.temperature == pytest.approx(2.5, rel=0.03)
    assert fit.nll_after < fit.nll_before
    assert fit.ece_after < 0.02 < fit.ece_before


def test_the_likelihood_agrees_with_scikit_learn_and_stays_finite() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    expected = log_loss(labels, corn_probabilities(logits, 1.7), labels=range(4))

    assert nll(logits, labels, "pain", 1.7) == pytest.approx(expected)
    assert nll(logits, labels % 3, "classification", 0.6) == pytest.approx(
        log_loss(labels % 3, softmax_probabilities(logits, 0.6), labels=range(3))
    )
    assert nll(np.array([[-1e4, 5.0]]), np.array([2]), "pain", 1.0) == pytest.approx(1e4, rel=1e-5)
    assert nll(np.array([[1e4, 0.0]]), np.array([1]), "classification", 1.0) == pytest.approx(1e4)


def test_the_temperature_stays_in_its_bounds_and_needs_windows() -> None:
    logits = np.array([[0.2, 0.0], [0.2, 0.0]])

    always_right = fit_temperature(logits, np.array([0, 0]), "classification")
    a_coin = fit_temperature(logits, np.array([0, 1]), "classification")

    assert always_right.temperature == pytest.approx(0.05, rel=1e-3)
    assert a_coin.temperature == pytest.approx(20.0, rel=1e-3)
    with pytest.raises(ValueError, match="at least one labelled window"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, np.int64), "classification")


def test_the_calibration_error_by_hand() -> None:
    # bin 9 of 15 holds .61 and .65, one right: |1/2 - .63|; bin 13 holds .9, right: .1
    probabilities = np.array([[0.61, 0.39], [0.35, 0.65], [0.9, 0.1]])

    error = expected_calibration_error(probabilities, np.array([0, 0, 0]))

    assert error == pytest.approx(2 / 3 * 0.13 + 1 / 3 * 0.1)


def test_each_person_weighs_the_same_by_hand() -> None:
    # three people: weights 1/8 1/8 | 1/4 | 1/16 x 4, infinity 1/4
    person = np.array([0, 0, 1, 2, 2, 2, 2])
    scores = np.array([3.0, 6.0, 4.0, 1.0, 2.0, 5.0, 7.0])

    # in order: 1 (.0625) 2 (.125) 3 (.25) 4 (.5) 5 (.5625) 6 (.6875) 7 (.75)
    assert hierarchical_quantile(scores, person, 0.5) == 4.0
    assert hierarchical_quantile(scores, person, 0.51) == 5.0
    assert hierarchical_quantile(scores, person, 0.75) == 7.0
    assert hierarchical_quantile(scores, person, 0.76) is None
    # without infinity: 1/6 1/6 | 1/3 | 1/12 x 4, in order .083 .167 .333 .667 .75 .917 1
    assert pooled_quantile(scores, person, 0.66) == 4.0
    assert pooled_quantile(scores, person, 0.76) == 6.0
    assert pooled_quantile(scores, person, 1.0 - 1e-6) == 7.0


@given(st.integers(1, 200), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 2**32 - 1))
def test_with_one_window_a_person_it_is_the_split_conformal_quantile(n, level, seed) -> None:
    # exchangeability: a new score is equally likely to fall into each of the n + 1 gaps
    scores = np.random.default_rng(seed).permutation(np.arange(float(n)))

    quantile = hierarchical_quantile(scores, np.arange(n), level)

    gaps_below = n + 1 if quantile is None else int((scores <= quantile).sum())
    assert gaps_below / (n + 1) >= level - 1e-9
    assert (gaps_below - 1) / (n + 1) < level


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_people_that_a_level_needs_are_just_enough(level: float, needed: int) -> None:
    assert people_needed(level) == needed
    assert hierarchical_quantile(np.arange(float(needed)), np.arange(needed), level) == needed - 1
    assert hierarchical_quantile(np.arange(needed - 1.0), np.arange(needed - 1), level) is None


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="2 conformity scores are not finite"):
        hierarchical_quantile(np.array([np.nan, 1.0, np.inf]), np.arange(3), 0.5)


def test_a_new_persons_window_is_covered_as_promised_where_pooled_windows_promise_too_much() -> None:
    # a person's windows share a large effect, and people who are hard to read have few of them
    rng = np.random.default_rng(2)
    hierarchical, split = [], []
    for _ in range(2000):
        effect = np.abs(rng.normal(size=31))
        windows = np.where(effect > 1.0, 4, 40)
        person = np.repeat(np.arange(31), windows)
        scores = effect[person] + 0.1 * rng.random(len(person))
        known, new = person < 30, rng.choice(scores[person == 30])
        quantile = hierarchical_quantile(scores[known], person[known], 0.9)
        hierarchical.append(quantile is None or new <= quantile)
        split.append(new <= np.quantile(scores[known], 0.9, method="higher"))

    error = np.sqrt(0.9 * 0.1 / 2000)
    assert np.mean(hierarchical) >= 0.9 - 3 * error
    assert np.mean(hierarchical) <= 0.9 + 1 / 31 + 3 * error  # no wider than it must be
    assert np.mean(split) < 0.8


def test_a_calibration_says_how_many_people_it_is_from() -> None:
    person = np.repeat(np.arange(9), 2)
    scores = {"valence": np.arange(18.0), "arousal": np.zeros(18)}

    calibration = conformal_calibration(scores, person, 0.9, temperature=1.5)

    assert calibration.quantiles == {"valence": 17.0, "arousal": 0.0}
    assert (calibration.people, calibration.windows, calibration.temperature) == (9, 18, 1.5)
    assert calibration.reason is None


def test_too_few_people_get_no_quantile_and_the_reason() -> None:
    few = conformal_calibration({"pain": np.arange(80.0)}, np.arange(80) // 10, 0.9)
    nobody = conformal_calibration({"pain": np.zeros(0)}, np.zeros(0), 0.9)

    assert few.quantiles == nobody.quantiles == {"pain": None}
    assert few.reason == "8 calibration people are too few for 90%, which needs 9: no set or interval is given"
    assert nobody.reason is not None
    assert nobody.reason.startswith("0 calibration people")


def test_a_level_between_whole_percents_is_told_as_it_is() -> None:
    few = conformal_calibration({"pain": np.arange(80.0)}, np.arange(80) // 10, 0.995)

    assert few.reason == "8 calibration people are too few for 99.5%, which needs 199: no set or interval is given"


def test_where_calibration_people_train_too_nothing_is_promised_for_a_new_one(
    toy_setting: Callable[[str], Setting],
) -> None:
    setting = toy_setting("pain")
    config = setting.config.model_copy(update={"confidence_level": 0.5})
    splits = config.splits.model_copy(update={"protocol": "clip-kfold"})
    net, by_person = setting.new_teacher(("face",)), replace(setting, config=config)
    by_clip = replace(setting, config=config.model_copy(update={"splits": splits}))

    promised, _ = calibrate(by_person, net, ("face",))
    nothing, _ = calibrate(by_clip, net, ("face",))

    assert (promised.kind, promised.reason) == ("conformal", None)
    assert (nothing.kind, nothing.quantiles, nothing.coverage) == ("none", {"pain": None}, {})
    assert nothing.reason is not None
    assert nothing.reason.startswith("the calibration clips are of people who train too")
    assert (nothing.temperature, nothing.people) == (promised.temperature, promised.people)


def test_pooled_out_of_fold_scores_stand_in_and_are_called_a_heuristic() -> None:
    out_of_fold = OutOfFold({"pain": np.arange(20.0)}, np.arange(20))

    few = conformal_calibration({"pain": np.ones(3)}, np.arange(3), 0.9, out_of_fold=out_of_fold)
    enough = conformal_calibration({"pain": np.ones(9)}, np.arange(9), 0.9, out_of_fold=out_of_fold)

    assert few.quantiles == {"pain": 17.0}
    assert (few.people, few.windows) == (20, 20)
    assert few.reason is not None
    assert "heuristic" in few.reason
    assert "20 people" in few.reason
    assert (enough.quantiles, enough.people, enough.reason) == ({"pain": 1.0}, 9, None)


def test_coverage_is_each_persons_share_then_over_people() -> None:
    person = np.array(["a", "a", "a", "a", "b"])
    sets = conformal_sets(np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]]), 0.6)
    intervals = conformal_intervals(np.array([0.0, 0.0, 0.0, 0.0, 5.0]), 1.0)

    of_sets = set_coverage(sets, np.array([1, 1, 1, 0, 0]), person)
    of_intervals = interval_coverage(intervals, np.array([0.0, 1.0, 2.0, -3.0, 7.0]), person)

    assert of_sets == pytest.approx((0.5 * (3 / 4 + 1), 3 / 4 + 0.1 / 4, 0.5 * (6 / 4 + 1), 2))
    assert of_intervals == pytest.approx((0.25, 0.05, 2.0, 2))


def test_coverage_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answered window"):
        interval_coverage(np.zeros((0, 2)), np.zeros(0), np.zeros(0))

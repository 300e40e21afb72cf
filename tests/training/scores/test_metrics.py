"""Scores against numbers worked out by hand, published ones, and scikit-learn's."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from training.losses.task import ccc, corn_loss
from training.scores.metrics import (
    affect_metrics,
    auc_score,
    balanced_accuracy_score,
    ccc_score,
    classification_metrics,
    icc_3_1_score,
    likeliest,
    macro_f1_score,
    pain_metrics,
    pcc_score,
    qwk_score,
    regression_metrics,
    score_by_person,
    spread_over_frames,
)


def sure_of(predicted: list[int], count: int) -> np.ndarray:
    """Probabilities of one for each prediction, NaN for -1."""
    rows = np.eye(count)[predicted]
    rows[np.array(predicted) < 0] = np.nan
    return rows


def test_pain_scores_of_five_clips() -> None:
    # right, one off, right, unanswered, wrong by four
    scores = pain_metrics(sure_of([0, 2, 2, -1, 0], 5), np.array([0, 1, 2, 3, 4]))

    assert scores["accuracy"] == pytest.approx(2 / 5)
    assert scores["accuracy_lowest_highest"] == pytest.approx(1 / 2)
    assert scores["mean_absolute_error"] == pytest.approx((0 + 1 + 0 + 3 + 4) / 5)
    assert scores["unanswered"] == 1
    # F1 of 0: 1 hit, 1 false; of 2: 1 hit, 1 false; none of 1, 3 and 4
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0 + 2 / 3 + 0 + 0) / 5)
    # the clip without an answer counts as the level farthest from 3, which is 0
    assert scores["qwk"] == pytest.approx(
        sk.cohen_kappa_score([0, 2, 2, 0, 0], [0, 1, 2, 3, 4], labels=range(5), weights="quadratic")
    )


def test_the_balanced_accuracy_of_pain_is_the_mean_recall_of_the_levels_that_are_there() -> None:
    # of level 0: right, right, right, wrong; of level 2: unanswered, right; level 1 is not there
    scores = pain_metrics(sure_of([0, 0, 0, 1, -1, 2], 3), np.array([0, 0, 0, 0, 2, 2]))

    assert scores["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores["accuracy"] == pytest.approx(4 / 6)


def test_the_intraclass_correlation_of_pain_is_of_the_expected_level() -> None:
    # expected levels 1/2, 1 and 3/2 for 0, 1 and 2: the squares about means .5, .25 apart give
    # 2 cov / (var + var) = 2 (1/2) / (1/4 + 1) for two judges
    probabilities = np.array([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])

    assert pain_metrics(probabilities, np.array([0, 1, 2]))["icc_3_1"] == pytest.approx(0.8)


def test_without_the_extremes_there_is_no_score_of_lowest_against_highest() -> None:
    assert "accuracy_lowest_highest" not in pain_metrics(sure_of([1, 0], 3), np.array([1, 1]))


def test_classification_scores_of_five_clips() -> None:
    # of class 0: right, wrong; of class 1: right, unanswered, right
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [np.nan, np.nan], [0.4, 0.6]])

    scores = classification_metrics(probabilities, np.array([0, 0, 1, 1, 1]))

    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 6) / 2)
    # pairs won: .8 beats .1 and .7, .6 beats .1, the unanswered one loses to both
    assert scores["auc"] == pytest.approx(3 / 6)
    assert scores["unanswered"] == 1


def test_an_area_under_the_curve_needs_two_classes_and_both_of_them() -> None:
    assert "auc" not in classification_metrics(sure_of([0, 1], 3), np.array([0, 1]))
    assert "auc" not in classification_metrics(sure_of([0, 1], 2), np.array([1, 1]))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_label_scores_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        truth, predicted = rng.integers(0, count, (2, 60))
        chances = np.round(rng.random(60), 1)  # with ties

        assert macro_f1_score(predicted, truth) == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
        assert balanced_accuracy_score(predicted, truth) == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
        assert qwk_score(predicted, truth) == pytest.approx(sk.cohen_kappa_score(truth, predicted, weights="quadratic"))
        assert auc_score(chances, truth % 2) == pytest.approx(sk.roc_auc_score(truth % 2, chances))


def test_the_likeliest_of_a_row_without_an_answer_is_none() -> None:
    assert likeliest(np.array([[0.2, 0.5, 0.3], [np.nan] * 3, [0.4, 0.4, 0.2]])).tolist() == [1, -1, 0]


def test_the_intraclass_correlation_of_the_paper_that_defines_it() -> None:
    # six targets by four judges, Shrout & Fleiss 1979, table 2; ICC(3,1) = .71 in table 4
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])

    assert icc_3_1_score(ratings.astype(np.float64)) == pytest.approx(0.71, abs=0.005)


def test_a_judges_constant_shift_costs_no_consistency() -> None:
    levels = np.array([0.0, 1.0, 2.0, 4.0])

    assert icc_3_1_score(np.stack([levels, levels + 7.0], axis=1)) == pytest.approx(1.0)
    assert icc_3_1_score(np.ones((3, 2))) == 0.0


def test_ccc_punishes_shift_and_scale_which_correlation_does_not() -> None:
    truth = np.array([-1.0, 0.0, 1.0])

    assert ccc_score(truth, truth) == pytest.approx(1.0)
    assert ccc_score(truth + 1, truth) == pytest.approx(2 * (2 / 3) / (2 / 3 + 2 / 3 + 1))
    assert ccc_score(2 * truth, truth) == pytest.approx(2 * (4 / 3) / (8 / 3 + 2 / 3))
    assert ccc_score(np.zeros(3), np.zeros(3)) == 0.0
    assert pcc_score(2 * truth + 1, truth) == pytest.approx(1.0)
    assert pcc_score(truth, np.ones(3)) == 0.0


def test_the_loss_and_the_score_compute_the_same_ccc() -> None:
    rng = np.random.default_rng(0)
    values, truth = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))

    scores = affect_metrics(values, truth)

    expected = ccc(torch.from_numpy(values), torch.from_numpy(truth))
    assert (scores["ccc_valence"], scores["ccc_arousal"]) == pytest.approx(tuple(expected.tolist()))


def test_each_output_of_a_regression_has_its_scores() -> None:
    rng = np.random.default_rng(1)
    truth = np.stack([rng.normal(70.0, 8.0, 40), rng.normal(0.0, 0.1, 40)], axis=1)
    values = truth + rng.normal(0.0, [4.0, 0.2], (40, 2))

    scores = regression_metrics(values, truth, ("pulse", "slope"))

    assert scores["pcc_pulse"] == pytest.approx(stats.pearsonr(values[:, 0], truth[:, 0]).statistic)
    assert scores["rmse_slope"] == pytest.approx(sk.root_mean_squared_error(truth[:, 1], values[:, 1]))
    assert scores["ccc_mean"] == pytest.approx(0.5 * (scores["ccc_pulse"] + scores["ccc_slope"]))
    assert scores["clips"] == 40


def test_a_persons_score_is_the_accuracy_of_their_clips() -> None:
    person = np.array(["b", "a", "b", "b", "a"])

    scores = score_by_person("pain", sure_of([0, 1, 2, -1, 0], 3), np.array([0, 1, 2, 2, 1]), person)

    assert scores == pytest.approx({"a": 1 / 2, "b": 2 / 3})


def test_a_persons_score_is_the_mean_ccc_of_the_outputs_that_vary_within_them() -> None:
    # person 1: the first output shifted by one, the second constant; person 2: nothing varies
    truth = np.array([[-1.0, 3.0], [0.0, 3.0], [1.0, 3.0], [5.0, 5.0], [5.0, 5.0]])
    values = truth + np.array([1.0, 0.5])

    scores = score_by_person("regression", values, truth, np.array([1, 1, 1, 2, 2]))

    assert scores == pytest.approx({"1": (4 / 3) / (4 / 3 + 1)})


def test_corn_loss_by_hand() -> None:
    # levels 0 and 2 of 3, all logits 0: task 0 asks both, task 1 asks only the second; each answer costs ln 2
    loss = corn_loss(torch.zeros(2, 2), torch.tensor([0, 2]))
    # a sure and right answer costs nothing
    sure = corn_loss(torch.tensor([[-40.0, 9.0], [40.0, 40.0]]), torch.tensor([0, 2]))

    assert loss.item() == pytest.approx(np.log(2))
    assert sure.item() == pytest.approx(0.0, abs=1e-6)


def test_frames_get_the_mean_of_their_windows_or_the_last_one() -> None:
    spans = np.array([[0.0, 2.0], [1.0, 3.0]])
    values = np.array([[0.0, 0.2], [1.0, 0.4]])

    spread = spread_over_frames(np.array([0.5, 1.5, 2.5, 9.0]), spans, values, np.zeros(2))

    assert spread[:, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    assert spread[:, 1] == pytest.approx([0.2, 0.3, 0.4, 0.4])


def test_a_frame_between_windows_gets_the_last_one_and_never_a_later_one() -> None:
    spans = np.array([[10.0, 12.0], [2.0, 4.0], [3.0, 5.0]])  # in any order
    values = np.array([[0.9, -0.9], [0.1, -0.1], [0.2, -0.2]])

    spread = spread_over_frames(np.array([0.0, 1.9, 2.0, 5.0, 9.9, 10.0, 12.0]), spans, values, np.zeros(2))

    assert spread[:, 0] == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.2, 0.9, 0.9])
    assert spread[:, 1] == pytest.approx([-0.1, -0.1, -0.1, -0.2, -0.2, -0.9, -0.9])


@given(
    spans=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=12),
    offset=st.sampled_from([0.0, -3.0, 1e6]),
    seed=st.integers(0, 9),
)
def test_frames_are_spread_as_the_plain_definition_says(spans: list[tuple[int, int]], offset: float, seed: int) -> None:
    times_s = np.arange(-2, 45) / 2
    spans_s = np.array([(start / 2, (start + length) / 2) for start, length in spans])
    values = offset + np.random.default_rng(seed).normal(size=(len(spans), 3))

    spread = spread_over_frames(times_s, spans_s, values, np.zeros(3))

    for time_s, said in zip(times_s, spread, strict=True):
        covering = (spans_s[:, 0] <= time_s) & (time_s < spans_s[:, 1])
        order = sorted(range(len(spans)), key=lambda i: spans_s[i, 0])
        latest = ([order[0]] + [i for i in order if spans_s[i, 0] <= time_s])[-1]
        plain = values[covering].mean(axis=0) if covering.any() else values[latest]
        np.testing.assert_allclose(said, plain, rtol=1e-12, atol=1e-12)


def test_windows_that_say_the_same_are_spread_to_just_that() -> None:
    starts = np.arange(200) * 0.1

    spread = spread_over_frames(
        np.arange(600) / 30, np.stack([starts, starts + 2.0], axis=1), np.full((200, 1), 0.3), np.zeros(1)
    )

    assert np.ptp(spread) == 0.0  # else rounding would have a correlation


def test_an_hour_of_frames_needs_no_memory_for_each_pair_of_frame_and_window() -> None:
    starts = np.arange(3600.0)
    times_s, spans_s = np.arange(30 * 3600) / 30, np.stack([starts, starts + 2.0], axis=1)
    tracemalloc.start()

    spread = spread_over_frames(times_s, spans_s, np.stack([starts, -starts], axis=1), np.zeros(2))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(spread[45::30], (starts[1:, None] - 0.5) * [1, -1], atol=1e-9)
    assert peak < 50e6  # there are 389 million pairs


def test_a_clip_without_windows_gets_the_fallback() -> None:
    spread = spread_over_frames(np.array([0.0, 1.0]), np.zeros((0, 2)), np.zeros((0, 2)), np.array([0.1, 0.2]))

    assert spread.tolist() == [[0.1, 0.2], [0.1, 0.2]]

"""Intervals and tests over people, against hand computation, scipy, and what they promise on drawn data."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from training.scores.concordance import person_moments
from training.scores.metrics import ccc_score
from training.scores.statistics import (
    average_over_runs,
    bootstrap_ccc,
    bootstrap_mean,
    bootstrap_scores,
    compare_ccc,
    compare_scores,
    holm,
    sign_flip_p,
    wilcoxon_p,
)


def bootstrap_people(
    statistic: Callable[[np.ndarray], float], person: np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float] | None:
    """The plain form: `statistic` of the rows of everybody drawn, as often as he or she was drawn."""
    _, owner = np.unique(person, return_inverse=True)
    rows = [np.flatnonzero(owner == p) for p in range(owner.max() + 1)]

    def of_draws(counts: np.ndarray) -> dict[str, np.ndarray]:
        picks = [np.repeat(np.arange(len(rows)), count.astype(int)) for count in counts]
        return {"score": np.array([statistic(np.concatenate([rows[p] for p in pick])) for pick in picks])}

    return bootstrap_scores(of_draws, len(rows), draws=draws, seed=seed)["score"]


def test_the_bootstrap_of_two_people_by_hand() -> None:
    # the mean of two draws from {0, 1} is 0, 1/2 or 1 with chances 1/4, 1/2 and 1/4
    scores = np.array([0.0, 1.0])

    assert bootstrap_mean(scores, level=0.95) == (0.0, 1.0)
    assert bootstrap_mean(scores, level=0.4) == (0.5, 0.5)


def test_the_bootstrap_of_a_mean_agrees_with_scipy() -> None:
    scores = np.random.default_rng(1).normal(size=25)
    expected = stats.bootstrap((scores,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval

    assert bootstrap_mean(scores) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_people_are_drawn_with_all_their_clips() -> None:
    person = np.repeat(["b", "a", "c"], [3, 1, 2])
    seen = []

    bootstrap_people(lambda rows: seen.append(rows) or 0.0, person, draws=50, seed=3)

    for rows in seen:
        times = {who: np.isin(rows, np.flatnonzero(person == who)).sum() / (person == who).sum() for who in "abc"}
        assert sum(times.values()) == 3
        assert all(t == int(t) for t in times.values())


def test_the_fast_forms_draw_the_same_people_as_the_general_one() -> None:
    rng = np.random.default_rng(4)
    person = np.repeat(np.arange(8), rng.integers(3, 9, 8))
    truth = rng.normal(size=len(person))
    values = truth + rng.normal(size=len(person))
    scores = rng.normal(size=8)

    general = bootstrap_people(lambda rows: ccc_score(values[rows], truth[rows]), person, draws=300, seed=5)
    of_mean = bootstrap_people(lambda rows: float(scores[rows].mean()), np.arange(8), draws=300, seed=5)

    assert bootstrap_ccc(person_moments(values, truth, person), draws=300, seed=5) == pytest.approx(general)
    assert bootstrap_mean(scores, draws=300, seed=5) == pytest.approx(of_mean)


def test_one_person_has_no_interval() -> None:
    assert bootstrap_mean(np.array([0.5])) is None
    assert bootstrap_people(lambda _: 1.0, np.zeros(5)) is None


def test_a_statistic_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite for 20 of 20 draws"):
        bootstrap_mean(np.array([float("nan"), 1.0, 2.0, 3.0]), draws=20)


def test_of_several_scores_one_that_a_draw_leaves_undefined_has_no_interval() -> None:
    def of_draws(counts: np.ndarray) -> dict[str, np.ndarray]:
        alone = counts.max(axis=1) == 3  # one of the three people, three times
        return {"first": counts[:, 0], "undefined": np.where(alone, np.nan, 1.0)}

    # the first of three people is drawn 0, 1, 2 or 3 times with chances 8, 12, 6 and 1 of 27
    assert bootstrap_scores(of_draws, 3) == {"first": (0.0, 3.0), "undefined": None}
    assert bootstrap_scores(of_draws, 3, level=0.3) == {"first": (1.0, 1.0), "undefined": None}
    assert bootstrap_scores(of_draws, 1) == {"first": None, "undefined": None}


def test_sign_flips_by_hand() -> None:
    # of the eight signs of 1, 2 and 3, only +++ and --- give a sum as far from 0 as 6
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    # |sum| >= 4 also for -1 +2 +3 and its mirror
    assert sign_flip_p(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert sign_flip_p(np.zeros(12)) == 1.0


@pytest.mark.parametrize(("people", "tolerance"), [(11, 1e-12), (18, 0.005)])
def test_sign_flips_agree_with_scipy_on_all_of_them(people: int, tolerance: float) -> None:
    differences = np.random.default_rng(people).normal(0.4, 1.0, people)
    exact = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=np.inf
    )

    assert sign_flip_p(differences) == pytest.approx(exact.pvalue, abs=tolerance)


def test_signed_ranks_by_hand_and_without_complaint_about_ties() -> None:
    # ten different positive values: only all plus and all minus are as extreme
    assert wilcoxon_p(np.arange(1.0, 11.0)) == pytest.approx(2 / 2**10)
    assert wilcoxon_p(np.zeros(10)) == 1.0
    ties = np.array([0.1, 0.1, 0.3 - 0.2, -0.1, 0.2, 0.0, 0.0, 0.2, -0.2, 0.2, 0.1, 0.0])
    assert wilcoxon_p(ties) == wilcoxon_p(10 * ties)


def test_methods_are_compared_person_by_person() -> None:
    a = {f"p{i}": 0.5 + 0.01 * i for i in range(10)}
    b = {who: score - (0.1 if who == "p3" else 0.2) for who, score in reversed(a.items())}

    comparison = compare_scores(a, b, tested=True)

    assert comparison.difference == pytest.approx(0.19)
    assert comparison.people == 10
    assert comparison.p_value == pytest.approx(2 / 2**10)
    assert comparison.interval is not None
    assert 0.15 < comparison.interval.low < 0.19 < comparison.interval.high <= 0.2 + 1e-12


def test_fewer_than_ten_people_get_an_interval_and_no_p_value() -> None:
    a, b = {f"p{i}": 1.0 + i for i in range(9)}, {f"p{i}": 0.0 for i in range(9)}
    moments = person_moments(np.arange(18.0), np.arange(18.0) ** 2, np.arange(18) // 2)

    for comparison in (compare_scores(a, b, tested=True), compare_ccc(moments, moments, tested=True)):
        assert (comparison.p_value, comparison.wilcoxon_p) == (None, None)
        assert comparison.interval is not None


def test_what_is_not_tested_gets_the_same_interval_and_no_p_value() -> None:
    a, b = {f"p{i}": 1.0 + i for i in range(12)}, {f"p{i}": 0.0 for i in range(12)}
    moments = person_moments(np.arange(24.0), np.arange(24.0) ** 2, np.arange(24) // 2)

    tested = [compare_scores(a, b, tested=True), compare_ccc(moments, moments, tested=True)]
    untested = [compare_scores(a, b, tested=False), compare_ccc(moments, moments, tested=False)]

    assert [one._replace(p_value=None, wilcoxon_p=None) for one in tested] == untested
    assert [one.p_value for one in tested] == [pytest.approx(2 / 2**12), 1.0]


def test_other_people_or_other_frames_are_refused() -> None:
    moments = person_moments(np.arange(6.0), np.arange(6.0), np.arange(6) // 2)
    other = person_moments(np.arange(6.0), np.arange(6.0) + 1, np.arange(6) // 2)

    with pytest.raises(ValueError, match="only one has a score for: p2"):
        compare_scores({"p1": 1.0, "p2": 1.0}, {"p1": 1.0}, tested=True)
    with pytest.raises(ValueError, match="same frames"):
        compare_ccc(moments, other, tested=True)


def test_a_method_against_itself_differs_by_nothing() -> None:
    rng = np.random.default_rng(6)
    moments = person_moments(rng.normal(size=60), rng.normal(size=60), np.arange(60) // 5)

    comparison = compare_ccc(moments, moments, tested=True)

    assert (comparison.difference, comparison.interval, comparison.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_pooled_cccs_are_exchanged_within_people_as_by_hand() -> None:
    rng = np.random.default_rng(7)
    person, truth = np.repeat(np.arange(10), 4), rng.normal(size=40)
    a, b = truth + 0.6 * rng.normal(size=40), truth + 0.9 * rng.normal(size=40)
    observed = ccc_score(a, truth) - ccc_score(b, truth)
    as_far = 0
    for code in range(2**10):
        swapped = (code >> person & 1).astype(bool)
        x, y = np.where(swapped, b, a), np.where(swapped, a, b)
        as_far += abs(ccc_score(x, truth) - ccc_score(y, truth)) >= abs(observed) - 1e-12

    comparison = compare_ccc(person_moments(a, truth, person), person_moments(b, truth, person), tested=True)

    assert comparison.difference == pytest.approx(observed)
    assert comparison.p_value == pytest.approx(as_far / 2**10)


def test_seeds_are_averaged_for_each_person() -> None:
    runs = [{"b": 0.5, "a": 1.0}, {"a": 0.0, "b": 0.7}, {"a": 0.5}]

    assert average_over_runs(runs) == pytest.approx({"a": 0.5, "b": 0.6})


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 times 3, 2, 1: .03, .04, then .03 raised to .04
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([None, 0.04]) == [None, 0.04]
    assert holm([]) == []


def test_without_a_difference_one_test_in_twenty_says_there_is_one() -> None:
    rng = np.random.default_rng(8)
    worlds = rng.standard_t(3, size=(1000, 12))

    flips = np.mean([sign_flip_p(d) < 0.05 for d in worlds])
    ranks = np.mean([wilcoxon_p(d) < 0.05 for d in worlds])

    # three standard errors of a share of 5 % in 1000 worlds are .021; ranks of 12 people reach 4.2 % at most below .05
    assert flips == pytest.approx(0.05, abs=0.021)
    assert 0.02 < ranks <= 0.064


def test_pooled_cccs_of_equal_methods_differ_significantly_once_in_twenty() -> None:
    rng = np.random.default_rng(9)
    person = np.repeat(np.arange(10), rng.integers(5, 40, 10))

    def one_world() -> float | None:
        truth = rng.normal(size=10)[person] + rng.normal(size=len(person))

        def method() -> np.ndarray:
            gain, shift = 0.5 + 0.3 * rng.normal(size=10), 0.3 * rng.normal(size=10)
            return gain[person] * truth + shift[person] + 0.5 * rng.normal(size=len(person))

        return compare_ccc(*(person_moments(method(), truth, person) for _ in range(2)), tested=True).p_value

    shares = np.mean([one_world() < 0.05 for _ in range(200)])

    assert shares == pytest.approx(0.05, abs=0.046)  # three standard errors


def test_the_interval_of_a_mean_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(10)
    intervals = [bootstrap_mean(scores, draws=1000, seed=i) for i, scores in enumerate(rng.normal(0.7, 1.0, (500, 40)))]

    held = np.mean([low <= 0.7 <= high for low, high in intervals])

    assert held == pytest.approx(0.94, abs=0.03)

"""Scores by group, by hand."""

import pytest

from training.scores.groups import scores_by_group

SCORES = {"p1": 0.5, "p2": 0.7, "p3": 0.9, "p4": 0.1}
CLIPS = {"p1": 10, "p2": 20, "p3": 5, "p4": 1}


def test_a_group_scores_the_mean_of_its_people_and_the_worst_and_the_gap_are_named() -> None:
    groups = {"p1": {"sex": "female"}, "p2": {"sex": "female"}, "p3": {"sex": "male"}}

    report = scores_by_group(SCORES, CLIPS, groups)["sex"]

    assert {value: (g.score, g.people, g.clips) for value, g in report.groups.items()} == {
        "female": (pytest.approx(0.6), 2, 30),
        "male": (pytest.approx(0.9), 1, 5),
        "unknown": (pytest.approx(0.1), 1, 1),
    }
    assert report.worst == "female"  # people of whom nothing is known are no group
    assert report.gap == pytest.approx(0.3)
    assert report.groups["female"].interval == pytest.approx((0.5, 0.7))
    assert report.groups["male"].interval is None


def test_sex_and_age_are_reported_as_unknown_where_a_corpus_is_silent() -> None:
    reports = scores_by_group(SCORES, CLIPS, {"p1": {"site": "A"}, "p2": {"site": "B"}})

    assert list(reports) == ["sex", "age", "site"]
    assert list(reports["age"].groups) == ["unknown"]
    assert (reports["age"].worst, reports["age"].gap) == (None, None)
    assert reports["site"].worst == "A"

"""Every score of drawn people against the scores of their items written out, and intervals by hand."""

from dataclasses import replace

import numpy as np
import pytest

from training.scores.intervals import score_intervals, scores_of_draws
from training.scores.predictions import Predictions

COUNTS = {"unanswered", "clips", "frames", "people"}
PEOPLE = np.repeat(["d", "a", "c", "b"], [9, 4, 12, 7])


def said_of(task: str, labels: int = 5) -> Predictions:
    """Four people with different numbers of clips; three clips have no answer where the task allows that."""
    rng, n = np.random.default_rng(labels), len(PEOPLE)
    item = np.array([f"{i:03d}" for i in range(n)])
    if task in ("pain", "classification"):
        said = rng.dirichlet(np.ones(labels), n).round(1)  # with ties
        said[[2, 10, 20]] = np.nan
        names = tuple(f"L{k}" for k in range(labels))
        return Predictions(task, names, PEOPLE, item, rng.integers(0, labels, n), said)  # type: ignore[arg-type]
    truth = rng.normal((0.0, 70.0), size=(n, 2))
    said = truth + rng.normal(size=(n, 2)) + 0.3
    return Predictions(task, ("valence", "arousal"), PEOPLE, item, truth, said)  # type: ignore[arg-type]


def written_out(said: Predictions, counts: np.ndarray) -> dict[str, float]:
    """The scores of each person's items, repeated so often."""
    who = dict(zip(np.unique(said.person), counts.astype(int), strict=True))
    rows = np.repeat(np.arange(len(said.person)), [who[person] for person in said.person])
    chosen = replace(said, person=said.person[rows], item=said.item[rows], truth=said.truth[rows], said=said.said[rows])
    return {name: score for name, score in chosen.scores().items() if name not in COUNTS}


@pytest.mark.parametrize(
    ("task", "labels"),
    [("pain", 5), ("pain", 2), ("classification", 3), ("classification", 2), ("valence-arousal", 0), ("regression", 0)],
)
def test_every_score_of_a_draw_is_that_of_the_people_drawn(task: str, labels: int) -> None:
    said = said_of(task, labels)
    draws = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 4, 0], [0, 3, 0, 1]], np.float64)

    found = scores_of_draws(said)(draws)

    assert set(found) == set(said.scores()) - COUNTS
    for d, counts in enumerate(draws):
        assert {name: of[d] for name, of in found.items()} == pytest.approx(written_out(said, counts), abs=1e-12)


def test_the_answer_that_never_varies_correlates_by_nothing_in_every_draw() -> None:
    said = said_of("regression")
    constant = replace(said, said=np.full_like(said.said, said.truth.mean()))

    intervals = score_intervals([constant])

    assert intervals["ccc_mean"] == pytest.approx((0.0, 0.0), abs=1e-12)
    assert intervals["pcc_arousal"] == pytest.approx((0.0, 0.0), abs=1e-6)


def labelled(truth: list[int], given: list[int], person: list[str]) -> Predictions:
    """Sure of one of two classes each time."""
    item = np.array([str(i) for i in range(len(truth))])
    return Predictions("classification", ("no", "yes"), np.array(person), item, np.array(truth), np.eye(2)[given])


def test_the_interval_of_two_people_by_hand() -> None:
    # a is right in all of two clips, b in one of two: the accuracy of two draws is 1/2, 3/4 or 1
    said = labelled([0, 1, 0, 1], [0, 1, 0, 0], ["a", "a", "b", "b"])

    intervals = score_intervals([said])

    assert intervals["accuracy"] == (0.5, 1.0)
    assert intervals["balanced_accuracy"] == (0.5, 1.0)
    # b alone: F1 of "no" is 2 / (2 + 1), of "yes" 0
    assert intervals["macro_f1"] == pytest.approx((1 / 3, 1.0))
    assert COUNTS.isdisjoint(intervals)


def test_the_mean_over_seeds_is_drawn_over_the_same_people_in_each() -> None:
    # what a wins in one seed she loses in the other: the mean is 1/2 whoever is drawn
    truth, person = [0, 1, 0, 1], ["a", "a", "b", "b"]
    right, wrong = labelled(truth, [0, 1, 1, 0], person), labelled(truth, [1, 0, 0, 1], person)

    assert score_intervals([right])["accuracy"] == (0.0, 1.0)
    assert score_intervals([right, wrong])["accuracy"] == (0.5, 0.5)


def test_a_score_that_a_draw_of_people_leaves_undefined_has_no_interval() -> None:
    # a has only "no", b only "yes": a draw of a twice has no area under the curve
    intervals = score_intervals([labelled([0, 0, 1, 1], [0, 0, 1, 0], ["a", "a", "b", "b"])])

    assert intervals["auc"] is None
    assert intervals["accuracy"] == (0.5, 1.0)


def test_one_person_has_scores_and_no_interval() -> None:
    said = labelled([0, 1], [0, 0], ["a", "a"])

    assert score_intervals([said]) == dict.fromkeys(["accuracy", "balanced_accuracy", "macro_f1", "auc"])


def test_runs_of_other_people_are_refused() -> None:
    with pytest.raises(ValueError, match="the same people in all of them"):
        score_intervals([labelled([0], [0], ["a"]), labelled([0], [0], ["b"])])


def test_the_people_are_counted_beside_the_clips() -> None:
    scores = said_of("pain").scores()

    assert (scores["people"], scores["clips"], scores["unanswered"]) == (4, 32, 3)

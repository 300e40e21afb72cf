"""Scores against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from training.losses.task import ccc, corn_loss
from training.metrics import affect_metrics, ccc_score, pain_metrics, spread_over_frames


def test_pain_scores_of_five_clips() -> None:
    # right, one off, right, unanswered, wrong by four
    scores = pain_metrics(np.array([0, 2, 2, -1, 0]), np.array([0, 1, 2, 3, 4]), 5)

    assert scores["accuracy"] == pytest.approx(2 / 5)
    assert scores["accuracy_lowest_highest"] == pytest.approx(1 / 2)
    assert scores["mean_absolute_error"] == pytest.approx((0 + 1 + 0 + 3 + 4) / 5)
    assert scores["unanswered"] == 1


def test_ccc_punishes_shift_and_scale_which_correlation_does_not() -> None:
    truth = np.array([-1.0, 0.0, 1.0])

    assert ccc_score(truth, truth) == pytest.approx(1.0)
    assert ccc_score(truth + 1, truth) == pytest.approx(2 * (2 / 3) / (2 / 3 + 2 / 3 + 1))
    assert ccc_score(2 * truth, truth) == pytest.approx(2 * (4 / 3) / (8 / 3 + 2 / 3))
    assert ccc_score(np.zeros(3), np.zeros(3)) == 0.0


def test_the_loss_and_the_score_compute_the_same_ccc() -> None:
    rng = np.random.default_rng(0)
    values, truth = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))

    scores = affect_metrics(values, truth)

    expected = ccc(torch.from_numpy(values), torch.from_numpy(truth))
    assert (scores["ccc_valence"], scores["ccc_arousal"]) == pytest.approx(tuple(expected.tolist()))


def test_corn_loss_by_hand() -> None:
    # levels 0 and 2 of 3, all logits 0: task 0 asks both, task 1 asks only the second; each answer costs ln 2
    loss = corn_loss(torch.zeros(2, 2), torch.tensor([0, 2]))
    # a sure and right answer costs nothing
    sure = corn_loss(torch.tensor([[-40.0, 9.0], [40.0, 40.0]]), torch.tensor([0, 2]))

    assert loss.item() == pytest.approx(np.log(2))
    assert sure.item() == pytest.approx(0.0, abs=1e-6)


def test_frames_get_the_mean_of_their_windows_or_the_nearest_one() -> None:
    spans = np.array([[0.0, 2.0], [1.0, 3.0]])
    values = np.array([[0.0, 0.2], [1.0, 0.4]])

    spread = spread_over_frames(np.array([0.5, 1.5, 2.5, 9.0]), spans, values, np.zeros(2))

    assert spread[:, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    assert spread[:, 1] == pytest.approx([0.2, 0.3, 0.4, 0.4])


def test_a_clip_without_windows_gets_the_fallback() -> None:
    spread = spread_over_frames(np.array([0.0, 1.0]), np.zeros((0, 2)), np.zeros((0, 2)), np.array([0.1, 0.2]))

    assert spread.tolist() == [[0.1, 0.2], [0.1, 0.2]]

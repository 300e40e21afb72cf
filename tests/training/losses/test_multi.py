"""MT-PKDOT's terms, against sums done by hand."""

import math

import pytest
import torch

from training.losses.multi import alignment_loss, centroid_loss


def test_centroids_are_mean_columns_of_cosine_similarities() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # similarities 1 0 / 0 1: mean column (1/2, 1/2)
    teacher = torch.tensor([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0]])  # 1 .6 / .6 1: (.8, .8)

    assert float(centroid_loss(student, teacher)) == pytest.approx(math.sqrt(2 * 0.3**2))


def test_centroids_of_equal_structure_meet_with_a_finite_gradient() -> None:
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    student = (2 * teacher).requires_grad_(True)

    value = centroid_loss(student, teacher)
    value.backward()

    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_no_gradient_of_the_centroids_reaches_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator).requires_grad_(True) for _ in "st")

    centroid_loss(student, teacher).backward()

    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_alignment_is_the_mean_of_both_cosines_less_one() -> None:
    joint = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    prevalent = torch.tensor([[3.0, 4.0], [0.0, 1.0]])  # cosines .6 and 1
    privileged = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])  # -1 and 0

    by_hand = ((1 - 0.6 + 1 + 1) / 2 + (1 - 1 + 1 - 0) / 2) / 2
    assert float(alignment_loss(prevalent, privileged, joint)) == pytest.approx(by_hand)


def test_alignment_trains_adapters_and_fusion() -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(4, 3, generator=generator).requires_grad_(True) for _ in range(3)]

    alignment_loss(*features).backward()

    assert all(z.grad is not None and z.grad.abs().sum() > 0 for z in features)

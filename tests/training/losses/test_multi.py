"""MT-PKDOT's terms, against sums done by hand."""

import math

import pytest
import torch

from training.losses.multi import alignment_loss, centroid_loss, sample_losses
from training.losses.task import task_loss


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


def test_the_loss_of_each_sample_by_hand() -> None:
    asked = torch.tensor([[math.log(3), 0.0]] * 4)  # y > 0 with probability 3/4, y > 1 with 1/2
    levels = sample_losses("pain", asked, torch.tensor([0, 1, 2, -1]))
    classes = sample_losses("classification", asked, torch.tensor([0, 1, -1, 0]))
    values = sample_losses(
        "valence-arousal",
        torch.tensor([[0.1, 0.2], [0.5, -0.5], [0.3, 0.3]]),
        torch.tensor([[0.0, 0.5], [0.5, -0.5], [torch.nan, 0.0]]),
    )

    yes, no, even = -math.log(3 / 4), -math.log(1 / 4), math.log(2)
    assert levels.tolist() == pytest.approx([no, (yes + even) / 2, (yes + even) / 2, 0.0])
    assert classes.tolist() == pytest.approx([yes, no, 0.0, yes])
    assert values.tolist() == pytest.approx([(0.1**2 + 0.3**2) / 2, 0.0, 0.0])


@pytest.mark.parametrize("task", ["pain", "classification"])
def test_the_loss_of_a_sample_is_the_tasks_of_a_batch_of_one(task: str) -> None:
    output, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, -1, 2, 0])

    alone = [float(task_loss(task, output[i : i + 1], targets[i : i + 1])) for i in range(6)]  # type: ignore[arg-type]

    assert sample_losses(task, output, targets).tolist() == pytest.approx(alone)  # type: ignore[arg-type]

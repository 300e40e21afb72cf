"""Point-to-point terms, against sums done by hand."""

import math

import pytest
import torch

from models.outputs import corn_probabilities
from training.losses.point import cosine_loss, feature_loss, kd_levels_loss, kd_values_loss


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distilled_levels_are_the_kl_of_the_level_distributions(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))

    value = float(kd_levels_loss(student, teacher, temperature=temperature))

    p, q = (corn_probabilities((z / temperature).numpy()) for z in (teacher, student))
    by_hand = sum(
        a * math.log(a / b) for row_p, row_q in zip(p, q, strict=True) for a, b in zip(row_p, row_q, strict=True)
    )
    assert value == pytest.approx(temperature**2 * by_hand / 6)


def test_distilled_values_are_one_minus_ccc() -> None:
    teacher = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]) / 4

    assert float(kd_values_loss(teacher, teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(kd_values_loss(teacher + 0.25, teacher)) == pytest.approx(1 - 4 / 7)  # 2 cov / (2 var + 1/16)


def test_features_and_cosine() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])

    assert float(feature_loss(student, teacher)) == pytest.approx((4 + 1) / 4)
    assert float(cosine_loss(student, teacher)) == pytest.approx(1 - (1 / math.sqrt(5) + 1) / 2)


@pytest.mark.parametrize(
    "loss", [kd_values_loss, feature_loss, cosine_loss, lambda s, t: kd_levels_loss(s, t, temperature=2)]
)
def test_the_student_learns_and_the_teacher_does_not(loss) -> None:  # type: ignore[no-untyped-def]
    student, teacher = (torch.randn(5, 2, requires_grad=True) for _ in range(2))

    loss(student, teacher).backward()

    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None

"""Variational information distillation, against the Gaussian likelihood and the maximum that has a closed form."""

import math

import pytest
import torch
from torch.nn import functional as F

from training.losses.vid import LEAST_VARIANCE, VIDLoss


def test_it_is_the_gaussian_likelihood_without_its_constant() -> None:
    torch.manual_seed(0)
    loss = VIDLoss(student_dim=3, teacher_dim=4)
    with torch.no_grad():
        loss.alpha.copy_(torch.tensor([-2.0, 0.0, 1.0, 3.0]))
    student, teacher = torch.randn(6, 3), torch.randn(6, 4)

    value = float(loss(student, teacher).detach())

    variance = F.softplus(loss.alpha.detach()) + LEAST_VARIANCE
    gaussian = torch.distributions.Normal(loss.mean(student).detach(), variance.sqrt())
    assert value == pytest.approx(float(-gaussian.log_prob(teacher).mean()) - math.log(2 * math.pi) / 2)


def test_variances_begin_at_one() -> None:
    variance = VIDLoss(student_dim=2, teacher_dim=3).variance.detach()

    torch.testing.assert_close(variance, torch.full((3,), 1 + LEAST_VARIANCE))


@pytest.mark.parametrize(("factor", "sign"), [(0.5, -1.0), (1.0, 0.0), (2.0, 1.0)])
def test_a_dimension_that_cannot_be_told_gets_the_variance_of_its_errors(factor: float, sign: float) -> None:
    """With the mean held at 0, the likelihood is largest where sigma^2 is the mean squared error: there it is flat."""
    loss = VIDLoss(student_dim=2, teacher_dim=2)
    teacher = torch.tensor([[0.5, 3.0], [-0.5, -1.0], [0.5, 1.0], [-0.5, -3.0]])  # mean squares 0.25 and 5
    variance = factor * torch.tensor([0.25, 5.0])
    with torch.no_grad():
        for parameter in loss.mean.parameters():
            parameter.zero_()
        loss.alpha.copy_((variance - LEAST_VARIANCE).expm1().log())

    loss(torch.zeros(4, 2), teacher).backward()

    assert loss.alpha.grad is not None
    slopes = torch.where(loss.alpha.grad.abs() < 1e-6, 0.0, loss.alpha.grad.sign())
    assert slopes.tolist() == [sign, sign]


def test_student_mean_and_variances_learn_and_the_teacher_does_not() -> None:
    torch.manual_seed(0)
    loss = VIDLoss(student_dim=3, teacher_dim=5, hidden=8)
    student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 5, requires_grad=True)

    loss(student, teacher).backward()

    assert teacher.grad is None
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (student, *loss.parameters()))


def test_autocast_does_not_reach_inside() -> None:
    torch.manual_seed(0)
    loss = VIDLoss(student_dim=3, teacher_dim=5)
    student, teacher = torch.randn(6, 3).bfloat16(), torch.randn(6, 5).bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)

    assert value.dtype == torch.float32
    assert float(value.detach()) == float(loss(student.float(), teacher.float()).detach())

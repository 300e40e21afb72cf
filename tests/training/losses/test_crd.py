"""Contrastive distillation, against a sum by hand and its two limits."""

import math

import pytest
import torch

from training.losses.crd import CRDLoss


def with_identity(loss: CRDLoss) -> CRDLoss:
    """The projections leave features as they are."""
    with torch.no_grad():
        for layer in (loss.student, loss.teacher):
            layer.weight.copy_(torch.eye(*layer.weight.shape))
            layer.bias.zero_()
    return loss


def test_it_is_the_mean_of_both_directions_by_hand() -> None:
    loss = with_identity(CRDLoss(student_dim=2, teacher_dim=2, dim=2, temperature=0.5))
    student, teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 3.0]])

    value = float(loss(student, teacher).detach())

    c = [[math.sqrt(0.5), 0.0], [math.sqrt(0.5), 1.0]]  # cosines of student i and teacher j
    e = [[math.exp(x / 0.5) for x in row] for row in c]
    to_teacher = -sum(math.log(e[i][i] / (e[i][0] + e[i][1])) for i in (0, 1)) / 2
    to_student = -sum(math.log(e[i][i] / (e[0][i] + e[1][i])) for i in (0, 1)) / 2
    assert value == pytest.approx((to_teacher + to_student) / 2)


def test_features_that_tell_nothing_cost_log_b_and_right_angles_nearly_nothing() -> None:
    loss = with_identity(CRDLoss(student_dim=8, teacher_dim=8, dim=8, temperature=0.05))

    assert float(loss(torch.ones(8, 8), torch.randn(8, 8)).detach()) >= math.log(8) - 1e-5
    assert float(loss(torch.ones(8, 8), torch.ones(8, 8)).detach()) == pytest.approx(math.log(8))
    assert float(loss(torch.eye(8), torch.eye(8)).detach()) < 1e-6


def test_student_and_both_projections_learn_and_the_teacher_does_not() -> None:
    torch.manual_seed(0)
    loss = CRDLoss(student_dim=3, teacher_dim=5)
    student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 5, requires_grad=True)

    loss(student, teacher).backward()

    assert teacher.grad is None
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (student, *loss.parameters()))


def test_training_it_tells_whose_features_are_whose() -> None:
    """The student's are a turned part of the teacher's, which no projection knows before."""
    torch.manual_seed(0)
    teacher = torch.randn(32, 6)
    student = teacher @ torch.randn(6, 4)
    loss = CRDLoss(student_dim=4, teacher_dim=6, dim=16)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.05)

    before = float(loss(student, teacher).detach())
    for _ in range(40):
        optimiser.zero_grad()
        loss(student, teacher).backward()
        optimiser.step()

    assert float(loss(student, teacher).detach()) < 0.2 * before


def test_autocast_does_not_reach_inside() -> None:
    torch.manual_seed(0)
    loss = CRDLoss(student_dim=3, teacher_dim=5)
    student, teacher = torch.randn(6, 3).bfloat16(), torch.randn(6, 5).bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)

    assert value.dtype == torch.float32
    assert float(value.detach()) == float(loss(student.float(), teacher.float()).detach())

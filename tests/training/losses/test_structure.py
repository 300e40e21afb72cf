"""Structural terms, against sums done by hand in plain loops."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.losses.structure import (
    cc_loss,
    feature_ot_loss,
    pkt_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_loss,
    sp_loss,
)

STUDENT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
LOSSES: list[Callable[[Tensor, Tensor], Tensor]] = [
    sp_loss, rkd_distance_loss, rkd_angle_loss, pkt_loss, cc_loss, similarity_loss,
    lambda s, t: feature_ot_loss(s, t, blur=0.3),
]  # fmt: skip


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosines(z: Tensor) -> list[list[float]]:
    rows = z.tolist()
    return [[dot(a, b) / math.sqrt(dot(a, a) * dot(b, b)) for b in rows] for a in rows]


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def test_similarity_preserving() -> None:
    def g(z: Tensor) -> list[list[float]]:
        rows = z.tolist()
        products = [[dot(a, b) for b in rows] for a in rows]
        return [[q / math.sqrt(dot(row, row)) for q in row] for row in products]

    by_hand = sum((a - b) ** 2 for p, q in zip(g(STUDENT), g(TEACHER), strict=True) for a, b in zip(p, q, strict=True))
    assert float(sp_loss(STUDENT, TEACHER)) == pytest.approx(by_hand / 9)


def test_relational_distances() -> None:
    def relative(z: Tensor) -> list[float]:
        rows = z.tolist()
        distances = [math.dist(rows[i], rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        return [d / (sum(distances) / 3) for d in distances]

    by_hand = sum(huber(a - b) for a, b in zip(relative(STUDENT), relative(TEACHER), strict=True)) / 3
    assert float(rkd_distance_loss(STUDENT, TEACHER)) == pytest.approx(by_hand)


def test_relational_angles() -> None:
    def angle(rows: list[list[float]], i: int, j: int, k: int) -> float:
        a, b = ([x - y for x, y in zip(rows[m], rows[j], strict=True)] for m in (i, k))
        lengths = math.sqrt(dot(a, a) * dot(b, b))
        return dot(a, b) / lengths if lengths else 0.0

    triplets = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
    by_hand = sum(huber(angle(STUDENT.tolist(), *t) - angle(TEACHER.tolist(), *t)) for t in triplets) / 27
    assert float(rkd_angle_loss(STUDENT, TEACHER)) == pytest.approx(by_hand)


def test_probabilistic_transfer() -> None:
    def probabilities(z: Tensor) -> list[list[float]]:
        kernel = [[(c + 1) / 2 if i != j else 0.0 for j, c in enumerate(row)] for i, row in enumerate(cosines(z))]
        return [[k / sum(row) for k in row] for row in kernel]

    p, q = probabilities(TEACHER), probabilities(STUDENT)
    by_hand = sum(p[i][j] * math.log(p[i][j] / q[i][j]) for i in range(3) for j in range(3) if i != j) / 3
    assert float(pkt_loss(STUDENT, TEACHER)) == pytest.approx(by_hand, abs=1e-9)


def test_correlation_congruence_is_nearly_a_gaussian_kernel() -> None:
    def series(z: Tensor) -> list[list[float]]:
        return [[math.exp(-0.8) * (1 + 0.8 * c + 0.32 * c**2) for c in row] for row in cosines(z)]

    rows = zip(series(STUDENT), series(TEACHER), strict=True)
    by_hand = sum((a - b) ** 2 for p, q in rows for a, b in zip(p, q, strict=True)) / 9
    assert float(cc_loss(STUDENT, TEACHER)) == pytest.approx(by_hand)
    assert series(STUDENT)[0][1] == pytest.approx(math.exp(-0.4 * 2))  # |x - y|^2 = 2 for right angles


def test_similarities_in_pairs() -> None:
    s, t = cosines(STUDENT), cosines(TEACHER)
    low_s, low_t = min(map(min, s)), min(map(min, t))
    by_hand = sum((s[i][j] - low_s - t[i][j] + low_t) ** 2 for i in range(3) for j in range(3)) / 9

    assert float(similarity_loss(STUDENT, TEACHER)) == pytest.approx(by_hand)


def test_ot_of_features_forgets_who_is_who_and_how_long_vectors_are() -> None:
    shuffled = 3 * STUDENT[torch.tensor([2, 0, 1])]

    assert float(feature_ot_loss(STUDENT, shuffled, blur=0.1)) == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_copy_costs_nothing_and_only_the_student_learns(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = (torch.randn(8, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in "st")

    loss(student, teacher).backward()

    assert float(loss(student, student.detach().clone()).detach()) == pytest.approx(0.0, abs=1e-8)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_samples_have_a_finite_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)

    loss(student, torch.randn(6, 4, dtype=torch.float64)).backward()

    assert student.grad is not None
    assert student.grad.isfinite().all()

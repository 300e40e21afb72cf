"""The structural OT loss: its steps against an independent computation, and where its gradient may and may not go."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.losses.ot import anchor_columns, bank_ot, centred, profiles, similarity, structural_ot
from training.losses.sinkhorn import sinkhorn_divergence

Cloud = NDArray[np.float64]
Divergence = Callable[[Cloud, Cloud, float], float]
Embeddings = Callable[..., tuple[Cloud, Cloud]]
Anchors = Literal["farthest", "nearest"]


def by_hand(student: Cloud, teacher: Cloud, k: int, anchors: Anchors, blur: float, divergence: Divergence) -> float:
    """method.md's five steps, in numpy."""

    def cosine(z: Cloud) -> Cloud:
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        return unit @ unit.T

    s_student, s_teacher = cosine(student), cosine(teacher)
    columns = np.zeros((len(student), k), np.int64)
    for i, row in enumerate(s_teacher):
        order = sorted((j for j in range(len(row)) if anchors == "farthest" or j != i), key=lambda j, r=row: (r[j], j))
        if anchors == "nearest":
            order = sorted((j for j in range(len(row)) if j != i), key=lambda j, r=row: (-r[j], j))
        columns[i] = order[:k]
    if k == len(student):
        columns[:] = np.arange(k)
    shifted = (s_student - s_student.min(), s_teacher - s_teacher.min())
    rows = [np.take_along_axis(s, columns, axis=1) for s in shifted]
    return divergence(rows[0], rows[1], blur)


@pytest.mark.parametrize("collapse", [0.5, 0.02])
@pytest.mark.parametrize("anchors", ["farthest", "nearest"])
@pytest.mark.parametrize(("batch", "k"), [(2, 1), (12, 5), (32, 15)])
def test_the_loss_is_the_method_step_by_step(
    batch: int, k: int, anchors: Anchors, collapse: float, embeddings: Embeddings, reference: Divergence
) -> None:
    student, teacher = embeddings(batch, collapse=collapse)

    z_student, z_teacher = torch.from_numpy(student), torch.from_numpy(teacher)
    value = float(structural_ot(z_student, z_teacher, k=k, anchors=anchors, blur=0.5))

    assert value == pytest.approx(by_hand(student, teacher, k, anchors, 0.5, reference), rel=1e-5, abs=1e-8)


def test_all_columns_stay_in_the_order_of_the_batch(embeddings: Embeddings, reference: Divergence) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(10))

    expected = by_hand(student.numpy(), teacher.numpy(), 10, "farthest", 0.5, reference)

    for anchors in ("farthest", "nearest", "shared"):
        value = structural_ot(student, teacher, k=10, anchors=anchors, blur=0.5)
        assert float(value) == pytest.approx(expected, rel=1e-5)


def test_columns_stand_in_the_teachers_order_and_ties_go_to_the_lower_index() -> None:
    s = torch.tensor([[1.0, 0.2, 0.2, 0.9], [0.2, 1.0, -0.5, 0.1], [0.2, -0.5, 1.0, 0.3], [0.9, 0.1, 0.3, 1.0]])

    assert anchor_columns(s, 3, "farthest").tolist() == [[1, 2, 3], [2, 3, 0], [1, 0, 3], [1, 2, 0]]
    assert anchor_columns(s, 3, "nearest").tolist() == [[3, 1, 2], [0, 3, 2], [3, 0, 1], [0, 2, 1]]


def test_shared_anchors_are_one_choice_for_all_rows_and_far_from_each_other() -> None:
    z = torch.tensor([[1.0, 0.0], [0.99, 0.14], [-1.0, 0.05], [0.0, 1.0], [0.1, 0.99]])

    columns = anchor_columns(similarity(z), 3, "shared")

    assert (columns == columns[0]).all()
    groups = [{0, 1}, {2}, {3, 4}]
    assert [sum(int(c) in group for c in columns[0]) for group in groups] == [1, 1, 1]


@pytest.mark.parametrize("anchors", ["farthest", "nearest", "shared"])
def test_the_order_of_the_batch_does_not_matter(anchors: str, embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(24, collapse=0.3))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))

    there = structural_ot(student, teacher, k=7, anchors=anchors)  # type: ignore[arg-type]  # parametrised
    shuffled = structural_ot(student[order], teacher[order], k=7, anchors=anchors)  # type: ignore[arg-type]

    assert float(there) == pytest.approx(float(shuffled), rel=1e-8)


def test_the_column_order_changes_the_value(embeddings: Embeddings) -> None:
    """Why columns are sorted: read in the batch's order, the loss would depend on it."""
    student, teacher = (torch.from_numpy(z) for z in embeddings(24, collapse=0.3))
    s_student, s_teacher = similarity(student), similarity(teacher)
    unsorted = anchor_columns(s_teacher, 7, "farthest").sort(dim=1).values

    rows = [(s - s.min()).gather(1, unsorted) for s in (s_student, s_teacher)]

    in_batch_order = float(sinkhorn_divergence(rows[0], rows[1]))
    assert in_batch_order != pytest.approx(float(structural_ot(student, teacher, k=7)), rel=1e-2)


def test_no_gradient_reaches_the_teacher(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z).requires_grad_(True) for z in embeddings(16))

    structural_ot(student, teacher, k=5).backward()

    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_the_gradient_flows_through_the_shift(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(8, collapse=0.4))
    student.requires_grad_(True)
    (gradient,) = torch.autograd.grad(structural_ot(student, teacher, k=3), student)

    columns = anchor_columns(similarity(teacher), 3, "farthest")
    s_student, s_teacher = similarity(student), similarity(teacher)
    without_shift = sinkhorn_divergence(
        (s_student - s_student.min().detach()).gather(1, columns), (s_teacher - s_teacher.min()).gather(1, columns)
    )
    (detached,) = torch.autograd.grad(without_shift, student)

    step, numeric = 1e-6, torch.zeros_like(gradient)
    with torch.no_grad():
        for i in range(8):
            for j in range(student.shape[1]):
                moved = student.detach().clone()
                moved[i, j] += step
                above = structural_ot(moved, teacher, k=3)
                moved[i, j] -= 2 * step
                numeric[i, j] = (above - structural_ot(moved, teacher, k=3)) / (2 * step)
    assert (gradient - numeric).norm() <= 1e-4 * numeric.norm()
    assert (detached - numeric).norm() > 1e-2 * numeric.norm()


def test_widths_may_differ_and_half_precision_is_read_as_single(embeddings: Embeddings) -> None:
    student, teacher = embeddings(12)
    narrow = torch.from_numpy(student[:, :5]).bfloat16().requires_grad_(True)

    value = structural_ot(narrow, torch.from_numpy(teacher).float(), k=4)
    value.backward()

    assert value.dtype == torch.float32
    assert narrow.grad is not None
    assert narrow.grad.isfinite().all()


@pytest.mark.parametrize("blur", [0.01, 0.1, 1.0])
def test_zero_vectors_and_duplicates_stay_finite(blur: float) -> None:
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])

    value = structural_ot(student, teacher, k=2, blur=blur)
    value.backward()

    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_normalising_divides_the_cost_by_k(embeddings: Embeddings, reference: Divergence) -> None:
    student, teacher = embeddings(12)

    value = structural_ot(torch.from_numpy(student), torch.from_numpy(teacher), k=4, blur=0.5, normalise=True)

    expected = by_hand(student, teacher, 4, "farthest", 0.5, lambda x, y, blur: reference(x / 2, y / 2, blur))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_identical_structure_costs_nothing_with_a_pair_cost_either(embeddings: Embeddings) -> None:
    z = torch.from_numpy(embeddings(16)[0]).requires_grad_(True)

    value = structural_ot(z, 3 * z.detach(), k=5, pair_cost=0.25)
    value.backward()

    assert abs(value.item()) <= 1e-9
    assert z.grad is not None
    assert z.grad.abs().max() <= 1e-7


def test_a_large_pair_cost_compares_each_row_with_its_own(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(16))

    value = structural_ot(student, teacher, k=5, pair_cost=50.0)

    rows = profiles(similarity(student), similarity(teacher), k=5, anchors="farthest", normalise=False)
    paired = ((rows[0] - rows[1]) ** 2).sum(1).mean() / 2
    assert float(value) == pytest.approx(float(paired), rel=1e-8)
    assert float(value) > float(structural_ot(student, teacher, k=5))


def test_a_pair_cost_between_labels_lies_between_none_and_one_between_samples(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(24))
    labels = torch.arange(24) % 4

    apart = labels[:, None] != labels[None, :]
    none, between_labels, between_samples = (
        float(structural_ot(student, teacher, k=6, pair_cost=mu, apart=others))
        for mu, others in ((0.0, None), (20.0, apart), (20.0, None))
    )

    assert none < between_labels < between_samples


def test_a_large_pair_cost_between_labels_compares_the_clouds_of_each(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(24))
    labels = torch.arange(24) % 4

    value = structural_ot(student, teacher, k=6, pair_cost=50.0, apart=labels[:, None] != labels[None, :])

    rows = profiles(similarity(student), similarity(teacher), k=6, anchors="farthest", normalise=False)
    inside = [float(sinkhorn_divergence(rows[0][labels == y], rows[1][labels == y])) for y in range(4)]
    assert float(value) == pytest.approx(sum(inside) / 4, rel=1e-7)


def test_the_gradient_of_the_fused_loss_is_that_of_finite_differences(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(6, collapse=0.4, dim=3))
    student.requires_grad_(True)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return structural_ot(z, teacher, k=3, pair_cost=0.05)

    assert torch.autograd.gradcheck(loss, (student,), atol=1e-6, rtol=1e-4, fast_mode=True)


def test_centring_takes_the_mean_of_the_batch_or_of_each_group() -> None:
    z = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 1.0], [9.0, 5.0]])

    assert centred(z).tolist() == [[-3.5, -2.0], [-1.5, 0.0], [0.5, -1.0], [4.5, 3.0]]
    groups = torch.tensor([5, -1, 5, 2])
    assert centred(z, groups).tolist() == [[-2.0, -0.5], [0.0, 0.0], [2.0, 0.5], [0.0, 0.0]]


def test_centring_refuses_groups_of_another_batch() -> None:
    with pytest.raises(ValueError, match=r"groups must be \(3,\)"):
        centred(torch.ones(3, 2), torch.zeros(4, dtype=torch.int64))


def test_centring_passes_no_gradient_along_the_mean() -> None:
    z = torch.randn(6, 3, requires_grad=True)
    weights = torch.randn(6, 3)

    (centred(z, torch.tensor([0, 0, 0, 1, 1, 1])) * weights).sum().backward()

    assert z.grad is not None
    torch.testing.assert_close(z.grad[:3].sum(0), torch.zeros(3))
    torch.testing.assert_close(z.grad[3:], weights[3:] - weights[3:].mean(0))


def test_a_bank_of_the_batch_itself_is_the_loss_with_all_columns(embeddings: Embeddings) -> None:
    """But for the shift by the minimum: so the minima are made equal, by an opposite pair on both sides."""
    student, teacher = embeddings(12)
    for z in (student, teacher):
        z[1] = -z[0]
    z_student, z_teacher = torch.from_numpy(student), torch.from_numpy(teacher)

    value = bank_ot(z_student, z_teacher, z_student, z_teacher, blur=0.3, pair_cost=0.02)

    expected = structural_ot(z_student, z_teacher, k=12, blur=0.3, pair_cost=0.02)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)


def test_a_bank_gives_profiles_of_cosines_to_its_prototypes(reference: Divergence) -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    student_bank, teacher_bank = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.eye(3)[:2]

    value = bank_ot(student, teacher, student_bank, teacher_bank, blur=0.5)

    half = 0.5**0.5
    rows = np.array([[1.0, half], [0.0, half]]), np.array([[half, half], [0.0, 0.0]])
    assert float(value) == pytest.approx(reference(*rows, 0.5), rel=1e-4)
    normalised = bank_ot(student, teacher, student_bank, teacher_bank, blur=0.5, normalise=True)
    assert float(normalised) == pytest.approx(reference(rows[0] * half, rows[1] * half, 0.5), rel=1e-4)


def test_a_banks_size_needs_no_batch_of_that_size_and_only_the_student_learns(embeddings: Embeddings) -> None:
    student, teacher = (torch.from_numpy(z).requires_grad_(True) for z in embeddings(5))
    banks = [torch.from_numpy(z).requires_grad_(True) for z in embeddings(40, seed=1)]

    bank_ot(student, teacher, *banks).backward()

    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert [z.grad for z in (teacher, *banks)] == [None] * 3


@pytest.mark.parametrize(
    ("student_bank", "teacher_bank", "complaint"),
    [
        (torch.ones(3, 5), torch.ones(3, 4), r"the student's bank must be \(M, 2\)"),
        (torch.ones(3, 2), torch.ones(2, 4), "name the same anchors; got 3 and 2"),
        (torch.ones(3, 2), torch.full((3, 4), float("inf")), "the teacher's bank holds NaN or infinity"),
    ],
)
def test_a_bank_that_does_not_fit_is_said(
    student_bank: torch.Tensor, teacher_bank: torch.Tensor, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        bank_ot(torch.ones(6, 2), torch.ones(6, 4), student_bank, teacher_bank)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "complaint"),
    [
        (torch.ones(4, 2), torch.ones(4, 2), {"k": 5}, r"k must lie in 1\.\.4.*k = 5"),
        (torch.ones(4, 2), torch.ones(4, 2), {"k": 0}, r"k must lie in 1\.\.4"),
        (torch.ones(4, 2), torch.ones(5, 2), {"k": 2}, r"of one batch"),
        (torch.ones(4, 2), torch.ones(4, 2), {"k": 2, "anchors": "random"}, "anchors must be one of farthest, nearest"),
        (torch.full((4, 2), float("nan")), torch.ones(4, 2), {"k": 2}, "the student's embeddings hold NaN"),
    ],
)
def test_bad_input_is_said(
    student: torch.Tensor, teacher: torch.Tensor, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        structural_ot(student, teacher, **options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("batch", "pair_cost", "blur"), [(64, 0.02, 1.0), (128, 0.1, 1.0), (200, 0.1, 0.3), (512, 0.0, 0.1)]
)
def test_embeddings_that_have_all_collapsed_to_one_point_are_solved_however_many(
    batch: int, pair_cost: float, blur: float
) -> None:
    """All terms of all sums are rounded alike: what the errors add up to grows with the batch."""
    z = torch.linspace(-1, 1, 16).expand(batch, 16)
    student = z.clone().requires_grad_(True)

    value = structural_ot(student, z, k=15, blur=blur, pair_cost=pair_cost)
    value.backward()

    assert abs(value.item()) <= 1e-12
    assert student.grad is not None
    assert student.grad.abs().max() <= 1e-12

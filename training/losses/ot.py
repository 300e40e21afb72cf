"""The structural OT loss: do the student's samples stand among their anchors as the teacher's do?

Aslam et al., "Distilling Privileged Multimodal Information for Expression Recognition using Optimal Transport", FG 2024
(arXiv 2401.15489). Each side's cosine similarities, (B, B), less their own minimum; of each row the k columns that the
teacher chose; the debiased entropic OT divergence between the two clouds of rows.

What may be changed of it, each an option of its own: the fused cost, which knows which rows are one sample
(`pair_cost`); features less their mean (`centred`); anchors from a bank in place of the batch (`bank_ot`).

Axes: B samples, D features, k anchors, M prototypes.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from training.losses.sinkhorn import sinkhorn_divergence

Anchors = Literal["farthest", "nearest", "shared"]


def structural_ot(
    student: Tensor,
    teacher: Tensor,
    *,
    k: int = 30,
    anchors: Anchors = "farthest",
    blur: float = 0.1,
    normalise: bool = False,
    pair_cost: float = 0.0,
    apart: Tensor | None = None,
) -> Tensor:
    """The loss of `student` (B, D_s) against `teacher` (B, D_t): a scalar, at least 0 up to the solver's tolerance.

    `anchors` says which k columns a row keeps, see `anchor_columns`; k = B keeps all. `blur` is the square root of the
    entropic regularisation, in units of distance between rows. `normalise` divides the cost |a - b|^2 / 2 by k, so that
    one blur serves every k. Float64 where one of the inputs is, else float32; half precision is read as float32.

    `pair_cost` mu is what it costs beside |a_i - b_j|^2 / 2 to move mass from sample i to another one, j != i, or where
    `apart` (B, B), bool, says so: [y_i != y_j] for labels y, a sample without label being a group of its own. 0 is the
    paper's loss, which forgets who is who; for large mu the loss is the paired mean of |a_i - b_i|^2 / 2. See
    `training.losses.sinkhorn`.

    No gradient reaches the teacher. The student's flows through the subtracted minimum too. A vector of zeros is
    similar to nothing, not to itself either, and receives no gradient.

    Raises ValueError for shapes that do not fit, k outside 1..B, unknown `anchors`, an `apart` that no grouping
    gives and numbers that are not finite; `training.errors.NotConverged` where the transport problem cannot
    be solved to its tolerance.

    >>> z = torch.eye(4)
    >>> abs(round(float(structural_ot(z, 2 * z, k=2)), 6))
    0.0
    """
    check_embeddings(student, teacher)
    s_teacher = similarity(teacher.detach())
    rows = profiles(similarity(student), s_teacher, k=k, anchors=anchors, normalise=normalise)
    return sinkhorn_divergence(*rows, blur=blur, pair_cost=pair_cost, apart=apart)


def bank_ot(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    *,
    blur: float = 0.1,
    normalise: bool = False,
    pair_cost: float = 0.0,
    apart: Tensor | None = None,
) -> Tensor:
    """`structural_ot` with anchors from outside the batch: one prototype on each side for each of M anchors.

    A row is a sample's cosine similarity to the M prototypes of its side, `student_bank` (M, D_s) and `teacher_bank`
    (M, D_t), in their order, so that coordinate j of every row names one anchor, and neither B nor the batch's members
    change what a row is. No minimum is subtracted: the prototypes fix the zero. `normalise` divides the cost by M; the
    other arguments, the result and the errors are those of `structural_ot`.

    No gradient reaches the teacher or the banks.
    """
    check_embeddings(student, teacher)
    check_banks(student, teacher, student_bank, teacher_bank)
    rows = bank_profiles(student, teacher, student_bank, teacher_bank, normalise=normalise)
    return sinkhorn_divergence(*rows, blur=blur, pair_cost=pair_cost, apart=apart)


def centred(z: Tensor, groups: Tensor | None = None) -> Tensor:
    """z (B, D) less the mean of the batch, or of each row's group, `groups` int64 (B,): (B, D).

    What all rows share, or all rows of a person, makes every cosine alike; without it cosines tell how samples differ.
    A row that is alone in its group becomes 0, which `similarity` finds similar to nothing.

    >>> centred(torch.tensor([[1.0], [3.0], [10.0]]), torch.tensor([7, 7, 4])).flatten().tolist()
    [-1.0, 1.0, 0.0]
    """
    if groups is None:
        return z - z.mean(0)
    if groups.shape != (len(z),):
        raise ValueError(f"groups must be ({len(z)},), one for each row of z; got {tuple(groups.shape)}")
    _, member, size = torch.unique(groups, return_inverse=True, return_counts=True)
    sums = z.new_zeros(len(size), z.shape[1]).index_add(0, member, z)  # (G, D)
    means: Tensor = sums / size[:, None]
    return z - means[member]


def profiles(
    s_student: Tensor, s_teacher: Tensor, *, k: int, anchors: Anchors, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The two clouds that are compared, student's and teacher's (B, k), of their similarities (B, B)."""
    columns = anchor_columns(s_teacher, k, anchors)  # (B, k)
    scale = k**-0.5 if normalise else 1.0
    return anchor_rows(s_student, columns) * scale, anchor_rows(s_teacher, columns) * scale


def bank_profiles(
    student: Tensor, teacher: Tensor, student_bank: Tensor, teacher_bank: Tensor, *, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The two clouds that `bank_ot` compares, student's and teacher's (B, M)."""
    scale = len(student_bank) ** -0.5 if normalise else 1.0
    return cosines(student, student_bank.detach()) * scale, cosines(teacher.detach(), teacher_bank.detach()) * scale


def check_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError unless both are (B, D) for one B, D may differ, and finite."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher) or not student.numel():
        raise ValueError(
            "expected student (B, D) and teacher (B, D') of one batch, not empty; "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    for name, z in (("student", student), ("teacher", teacher)):
        if not torch.isfinite(z).all():
            raise ValueError(f"the {name}'s embeddings hold NaN or infinity: look for the layer that made it")


def check_banks(student: Tensor, teacher: Tensor, student_bank: Tensor, teacher_bank: Tensor) -> None:
    """Raise ValueError unless the banks are (M, D_s) and (M, D_t) for one M, and finite."""
    for name, z, bank in (("student", student, student_bank), ("teacher", teacher, teacher_bank)):
        if bank.ndim != 2 or not len(bank) or bank.shape[1] != z.shape[1]:
            raise ValueError(f"the {name}'s bank must be (M, {z.shape[1]}), not empty; got {tuple(bank.shape)}")
        if not torch.isfinite(bank).all():
            raise ValueError(f"the {name}'s bank holds NaN or infinity: look at what was averaged into it")
    if len(student_bank) != len(teacher_bank):
        raise ValueError(f"the banks must name the same anchors; got {len(student_bank)} and {len(teacher_bank)}")


def similarity(z: Tensor) -> Tensor:
    """Cosine similarities of the rows of z (B, D): (B, B), float32 or, for float64, float64.

    Autocast is off inside: in half precision the order of similar neighbours would be noise.
    """
    with torch.autocast(z.device.type, enabled=False):
        unit = unit_rows(z.to(torch.promote_types(z.dtype, torch.float32)))
        return unit @ unit.T


def cosines(z: Tensor, others: Tensor) -> Tensor:
    """Cosine similarities of each row of z (B, D) to each of `others` (M, D): (B, M), in the precision of z's."""
    with torch.autocast(z.device.type, enabled=False):
        dtype = torch.promote_types(z.dtype, torch.float32)
        return torch.mm(unit_rows(z.to(dtype)), unit_rows(others.to(dtype)).T)


def unit_rows(z: Tensor) -> Tensor:
    """The rows of z (B, D) scaled to length 1; zeros stay zeros, without gradient."""
    largest = z.detach().abs().amax(1, keepdim=True)  # (B, 1)
    zero = largest < torch.finfo(z.dtype).tiny
    z = torch.where(zero, 0.0, z / torch.where(zero, 1.0, largest))  # a cosine knows no scale: squares cannot overflow
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)  # (B, 1)
    return z / torch.where(zero, 1.0, norm)


def anchor_columns(s_teacher: Tensor, k: int, anchors: Anchors) -> Tensor:
    """The k columns that each row of the teacher's similarities s_teacher (B, B) keeps: (B, k), int64.

    `farthest`: the least similar, ascending; a sample comes among its own anchors only where k asks for it. `nearest`:
    the most similar without the sample itself, descending. `shared`: the same for all rows, by greedy farthest-point
    choice, from the sample with the lowest mean similarity on. Ties go to the lower index; k = B keeps all columns in
    the order of the batch. Raises ValueError for k outside 1..B or unknown `anchors`.
    """
    batch = len(s_teacher)
    if anchors not in get_args(Anchors):
        raise ValueError(f"anchors must be one of {', '.join(get_args(Anchors))}; got {anchors!r}")
    if not 1 <= k <= batch:
        raise ValueError(f"k must lie in 1..{batch}, the batch size; got k = {k} for a batch of {batch}")
    if k == batch:
        return torch.arange(batch, device=s_teacher.device).expand(batch, batch)
    if anchors == "shared":
        return farthest_points(s_teacher, k).expand(batch, k)
    if anchors == "nearest":
        others = s_teacher.clone().fill_diagonal_(-torch.inf)
        return torch.sort(others, dim=1, descending=True, stable=True).indices[:, :k]
    return torch.sort(s_teacher, dim=1, stable=True).indices[:, :k]


def farthest_points(s_teacher: Tensor, k: int) -> Tensor:
    """k indices (k,): each time the sample whose most similar chosen one is least similar to it."""
    chosen = [s_teacher.mean(1).argmin()]
    closest = s_teacher[chosen[0]].clone()  # (B,), similarity to the most similar chosen sample
    for _ in range(k - 1):
        closest[chosen[-1]] = torch.inf
        chosen.append(closest.argmin())
        closest = torch.maximum(closest, s_teacher[chosen[-1]])
    return torch.stack(chosen)


def anchor_rows(s: Tensor, columns: Tensor) -> Tensor:
    """Each sample's profile: the similarities s (B, B) less their minimum, at `columns` (B, k): (B, k)."""
    return (s - s.min()).gather(1, columns)

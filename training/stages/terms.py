"""What a student can be given of its teacher beside the task: the distillation terms of its loss, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.nets.teacher import Forward
from models.spec import Task
from training.data.window_set import has_target
from training.losses import multi, point, structure
from training.losses.crd import CRDLoss
from training.losses.gromov import gromov_loss
from training.losses.ot import centred, profiles, similarity, structural_ot
from training.losses.sinkhorn import sinkhorn_divergence
from training.losses.vid import VIDLoss
from training.stage_config import StudentConfig


class Seen(NamedTuple):
    """What a term compares: B windows as student and teacher see them, their targets and persons."""

    student: Forward
    teacher: Forward
    targets: Tensor
    person: Tensor

    def at(self, rows: Tensor) -> "Seen":
        """Only the windows where `rows` (B,) is True."""
        return Seen(_rows(self.student, rows), _rows(self.teacher, rows), self.targets[rows], self.person[rows])


class TermSpec(NamedTuple):
    """What a term is made for."""

    config: StudentConfig
    task: Task
    dim: int
    """Of z."""
    standardised: Callable[[Tensor], Tensor] = torch.positive
    """Outputs or targets that are values, (B, C), to the units in which a loss takes them."""


class Formula(nn.Module):
    """A term without state."""

    def __init__(self, loss: Callable[[Seen], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, seen: Seen) -> Tensor:
        return self.loss(seen)


def less_the_mean(z: Tensor, person: Tensor, config: StudentConfig) -> Tensor:
    """z (B, D) less the mean that the recipe takes off before the cosine: none, the batch's, or each person's."""
    if config.centre == "none":
        return z
    return centred(z, person if config.centre == "person" else None)


def apart(targets: Tensor, config: StudentConfig) -> Tensor | None:
    """bool (B, B): between which samples transport costs `pair_cost` more; None for all that are not one sample.

    By label: those whose targets (B,) or (B, C) differ. A sample without a target is apart from all others.
    """
    if config.apart == "sample":
        return None
    own = torch.arange(len(targets), device=targets.device)
    label = torch.unique(targets.nan_to_num(), dim=0, return_inverse=True)[1]
    group = torch.where(has_target(targets), label, len(targets) + own)
    return group[:, None] != group[None, :]


class StructuralOT(nn.Module):
    """PKDOT's term with the recipe's options: centring, the cost between samples that are apart, a projection of z."""

    def __init__(self, spec: TermSpec) -> None:
        super().__init__()
        self.config = spec.config
        width = spec.config.projection
        self.projection = nn.Linear(spec.dim, width, bias=False) if width else nn.Identity()

    def compared(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The student's z and the teacher's, (B, W) and (B, D), whose cosines the term takes."""
        student, teacher = self.projection(seen.student.z), seen.teacher.z
        return less_the_mean(student, seen.person, self.config), less_the_mean(teacher, seen.person, self.config)

    def clouds(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The rows between which mass is transported, the student's and the teacher's (B, k)."""
        c = self.config
        student, teacher = (similarity(z) for z in self.compared(seen))
        return profiles(student, teacher, k=min(c.k, len(student)), anchors=c.anchors, normalise=c.normalise)

    def forward(self, seen: Seen) -> Tensor:
        c = self.config
        return structural_ot(
            *self.compared(seen),
            k=min(c.k, len(seen.student.z)),
            anchors=c.anchors,
            blur=c.blur,
            normalise=c.normalise,
            pair_cost=c.pair_cost,
            apart=apart(seen.targets, c),
        )


class OfZ(nn.Module):
    """A trainable term of the joint representations: CRD's and VID's networks learn beside the student."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, seen: Seen) -> Tensor:
        loss: Tensor = self.loss(seen.student.z, seen.teacher.z)
        return loss


def _kd(spec: TermSpec) -> nn.Module:
    temperature = spec.config.temperature
    if spec.task == "pain":
        return Formula(lambda s: point.kd_levels_loss(s.student.output, s.teacher.output, temperature=temperature))
    if spec.task == "classification":
        return Formula(lambda s: point.kd_classes_loss(s.student.output, s.teacher.output, temperature=temperature))
    return Formula(
        lambda s: point.kd_values_loss(spec.standardised(s.student.output), spec.standardised(s.teacher.output))
    )


class OTToLabels(StructuralOT):
    """The control that knows no privileged signal: similarity is [y_i = y_j], or the mean -|y_i - y_j| over values.

    The student's side has the recipe's options as in PKDOT's term, so that the two differ in what they are told alone.
    """

    def __init__(self, spec: TermSpec) -> None:
        super().__init__(spec)
        self.standardised = spec.standardised

    def clouds(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The student's rows and those of the labels, (B, k), between which mass is transported; all have a label."""
        c, z, targets = self.config, self.projection(seen.student.z), seen.targets
        if targets.ndim == 1:
            s_labels = (targets[:, None] == targets[None, :]).to(z.dtype)  # (B, B)
        else:
            values = self.standardised(targets)
            s_labels = -(values[:, None] - values[None, :]).abs().mean(2)  # (B, B)
        s_student = similarity(less_the_mean(z, seen.person, c))
        return profiles(s_student, s_labels, k=min(c.k, len(z)), anchors=c.anchors, normalise=c.normalise)

    def forward(self, seen: Seen) -> Tensor:
        c, labelled = self.config, seen.at(has_target(seen.targets))
        if len(labelled.targets) < 2:
            return 0.0 * seen.student.z.sum()
        rows = self.clouds(labelled)
        return sinkhorn_divergence(*rows, blur=c.blur, pair_cost=c.pair_cost, apart=apart(labelled.targets, c))


def _of_z(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[TermSpec], nn.Module]:
    return lambda spec: Formula(lambda s: loss(s.student.z, s.teacher.z))  # noqa: ARG005 - every maker takes a spec


TERMS: Mapping[str, Callable[[TermSpec], nn.Module]] = MappingProxyType(
    {
        "OT": StructuralOT,
        "OT to labels": OTToLabels,
        "KD": _kd,
        "features": _of_z(point.feature_loss),
        "cosine": _of_z(point.cosine_loss),
        "CRD": lambda spec: OfZ(CRDLoss(student_dim=spec.dim, teacher_dim=spec.dim)),
        "VID": lambda spec: OfZ(VIDLoss(student_dim=spec.dim, teacher_dim=spec.dim)),
        "SP": _of_z(structure.sp_loss),
        "RKD distance": _of_z(structure.rkd_distance_loss),
        "RKD angle": _of_z(structure.rkd_angle_loss),
        "PKT": _of_z(structure.pkt_loss),
        "CC": _of_z(structure.cc_loss),
        "similarity": _of_z(structure.similarity_loss),
        "OT of features": lambda spec: Formula(
            lambda s: structure.feature_ot_loss(s.student.z, s.teacher.z, blur=spec.config.blur)
        ),
        "Gromov-Wasserstein": lambda spec: Formula(
            lambda s: gromov_loss(s.student.z, s.teacher.z, blur=spec.config.blur)
        ),
        "centroid": _of_z(multi.centroid_loss),
    }
)


def build_terms(names: tuple[str, ...], spec: TermSpec, *, seed: int) -> nn.ModuleDict:
    """The terms of a row; those with weights of their own draw them from `seed`."""
    torch.manual_seed(seed)
    return nn.ModuleDict({name: TERMS[name](spec) for name in names})


def term_loss(term: nn.Module, seen: Seen, block: Tensor | None) -> Tensor:
    """A term over a batch; where different teachers saw different windows, the mean over their blocks (B,).

    How windows stand to each other can only be asked of one teacher: each has a space of its own.
    """
    if block is None:
        loss: Tensor = term(seen)
        return loss
    total = 0.0 * seen.student.z.sum()
    for rows in compared_windows(block):
        total = total + rows.float().mean() * term(seen.at(rows))
    return total


def compared_windows(block: Tensor) -> list[Tensor]:
    """bool (B,) for each of the teachers in `block` (B,): its windows, where it has two to compare at least."""
    return [rows for one in torch.unique(block) if int((rows := block == one).sum()) >= 2]


def gradient_at_z(z: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """The norm of a loss's gradient at the joint representation z (B, D)."""
    z = z.detach().requires_grad_(True)
    value = loss(z)
    if not value.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(value, z)
    return float(gradient.norm())


def _rows(out: Forward, rows: Tensor) -> Forward:
    return Forward({name: values[rows] for name, values in out.features.items()}, out.z[rows], out.output[rows])

"""What a student can be given of its teacher beside the task: the distillation terms of its loss, by name."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward
from training.config import StudentConfig
from training.data import Batch
from training.losses import point, structure
from training.losses.ot import profiles, similarity, structural_ot
from training.losses.sinkhorn import sinkhorn_divergence
from training.losses.task import task_loss

TASK = "task"

Term = Callable[[Forward, Forward, Tensor, StudentConfig], Tensor]
"""(student's, teacher's, targets, settings) to a scalar."""


def _kd(student: Forward, teacher: Forward, targets: Tensor, config: StudentConfig) -> Tensor:
    if targets.ndim == 1:
        return point.kd_levels_loss(student.output, teacher.output, temperature=config.temperature)
    return point.kd_values_loss(student.output, teacher.output)


def _ot(student: Forward, teacher: Forward, _: Tensor, config: StudentConfig) -> Tensor:
    return structural_ot(
        student.z, teacher.z, k=config.k, anchors=config.anchors, blur=config.blur, normalise=config.normalise
    )


def _ot_to_labels(student: Forward, _: Forward, targets: Tensor, config: StudentConfig) -> Tensor:
    """The control that knows no privileged signal: similarity is [y_i = y_j], or -|y_i - y_j| over both values."""
    if targets.ndim == 1:
        s_labels = (targets[:, None] == targets[None, :]).to(student.z.dtype)  # (B, B)
    else:
        s_labels = -(targets[:, None] - targets[None, :]).abs().mean(2)  # (B, B)
    rows = profiles(similarity(student.z), s_labels, k=config.k, anchors=config.anchors, normalise=config.normalise)
    return sinkhorn_divergence(*rows, blur=config.blur)


def _of_z(loss: Callable[[Tensor, Tensor], Tensor]) -> Term:
    return lambda student, teacher, targets, config: loss(student.z, teacher.z)  # noqa: ARG005 - a Term's four


TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "OT": _ot,
        "OT to labels": _ot_to_labels,
        "KD": _kd,
        "features": _of_z(point.feature_loss),
        "cosine": _of_z(point.cosine_loss),
        "SP": _of_z(structure.sp_loss),
        "RKD distance": _of_z(structure.rkd_distance_loss),
        "RKD angle": _of_z(structure.rkd_angle_loss),
        "PKT": _of_z(structure.pkt_loss),
        "CC": _of_z(structure.cc_loss),
        "similarity": _of_z(structure.similarity_loss),
        "OT of features": lambda student, teacher, _, config: structure.feature_ot_loss(
            student.z, teacher.z, blur=config.blur
        ),
    }
)


def gradient_at_z(z: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """The norm of a loss's gradient at the joint representation z (B, D)."""
    z = z.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(z), z)
    return float(gradient.norm())


@torch.no_grad()
def seen_by(net: nn.Module, batch: Batch) -> Forward:
    """What `net` makes of a batch, without gradients."""
    out: Forward = net(batch.tensors)
    return out


def balanced_weights(
    student: Student, teacher: nn.Module, batches: Iterable[Batch], terms: Iterable[str], config: StudentConfig
) -> dict[str, float]:
    """The weight with which each term's gradient at z is `config.gradient_ratio` times the task's, over `batches`.

    One rule for all: no method is tuned with more care than another. A term without any gradient gets no weight.
    """
    names = tuple(terms)
    norms = dict.fromkeys((TASK, *names), 0.0)
    for batch in batches:
        own, seen = seen_by(student, batch), seen_by(teacher, batch)
        for name in norms:
            loss = partial(_loss_at, name=name, student=student, own=own, seen=seen, batch=batch, config=config)
            norms[name] += gradient_at_z(own.z, loss)
    return {
        name: config.gradient_ratio * norms[TASK] / norms[name] if norms[name] > 1e-9 * norms[TASK] else 0.0
        for name in names
    }


def _loss_at(
    z: Tensor, *, name: str, student: Student, own: Forward, seen: Forward, batch: Batch, config: StudentConfig
) -> Tensor:
    """A term, or the task, as a function of the student's joint representation."""
    output = student.head(z)
    if name == TASK:
        return task_loss(output, batch.targets)
    return TERMS[name](Forward(own.features, z, output), seen, batch.targets, config)

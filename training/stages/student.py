"""Stage 3: the student. L = L_task + w_T · L_TNet + lambda · L_OT (PKDOT, arXiv 2401.15489)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Teacher
from training.config import StudentConfig
from training.data import Batch
from training.loop import FitReport, fit
from training.losses.ot import structural_ot
from training.losses.task import task_loss
from training.stages.setting import Setting, mean_squared, selection_loss


class Method(NamedTuple):
    """Which of the teacher's knowledge a student gets; everything else is equal in all methods."""

    trained_tnet: bool
    tnet_loss: bool
    ot_loss: bool


METHODS = {
    "student without privileged": Method(trained_tnet=False, tnet_loss=False, ot_loss=False),
    "hallucination only": Method(trained_tnet=True, tnet_loss=True, ot_loss=False),
    "PKDOT": Method(trained_tnet=True, tnet_loss=True, ot_loss=True),
}
"""The first is method.md's lower bound B: the same graph, its T-Net branch trained by the task loss alone."""


def train_student(
    setting: Setting,
    available: tuple[str, ...],
    encoders: dict[str, dict[str, Any]],
    tnet_weights: dict[str, Any],
    teacher: Teacher,
    method: Method,
) -> tuple[Student, FitReport]:
    """A student for `available`, from stage 0's encoders, and from stage 2's T-Nets if the method has them."""
    config = setting.config.student
    student = setting.new_student(available)
    for name in available:
        student.encoders[name].load_state_dict(encoders[name])
    if method.trained_tnet:
        student.tnets.load_state_dict(tnet_weights)
    if config.trainable == "fusion":
        student.encoders.requires_grad_(False)
        student.tnets.requires_grad_(not method.trained_tnet)  # what no stage 2 has trained has to learn now
    train = setting.train.with_all(setting.config.modalities)
    select = setting.select.with_all(setting.config.modalities)
    teacher.eval()

    def step(batch: Batch, noise: torch.Generator) -> Tensor:
        return student_loss(student, teacher, setting.augmented(batch, noise), config, method)

    report = fit(
        student,
        [p for p in student.parameters() if p.requires_grad],
        step,
        lambda: selection_loss(student, select, setting.device),
        train,
        config,
        seed=setting.config.seed,
        label=f"student: {'+'.join(available)}",
        state_file=setting.scratch / f"student-{'+'.join(available)}.state",
    )
    return student, report


def student_loss(student: Student, teacher: Teacher, batch: Batch, config: StudentConfig, method: Method) -> Tensor:
    """The weighted sum for one batch; the teacher gives numbers, and no gradient reaches it."""
    out = student(batch.tensors)
    loss = task_loss(out.output, batch.targets)
    if not (method.tnet_loss or method.ot_loss):
        return loss
    with torch.no_grad():
        seen = teacher(batch.tensors)
    if method.tnet_loss:
        errors = [
            mean_squared(out.features[name], seen.features[name], student.tnet(name).spread)
            for name in student.hallucinated
        ]
        loss = loss + config.tnet_weight * torch.stack(errors).mean()
    if method.ot_loss:
        loss = loss + config.ot_weight * structural_ot(
            out.z, seen.z, k=config.k, anchors=config.anchors, blur=config.blur, normalise=config.normalise
        )
    return loss

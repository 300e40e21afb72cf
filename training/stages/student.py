"""Stage 3: the student. L = L_task + w_T · L_TNet + lambda · L_OT (PKDOT, arXiv 2401.15489), or another row's terms."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from training.config import StudentConfig
from training.data import Batch
from training.loop import FitReport, fit
from training.losses.task import task_loss
from training.stages.methods import Method
from training.stages.setting import Setting, mean_squared, selection_loss
from training.stages.terms import TERMS, balanced_weights, seen_by


class Teachers(NamedTuple):
    """Who teaches: the joint teacher the T-Net, and `source`, which may be a control, the terms."""

    joint: Teacher
    source: nn.Module


class Shuffled(nn.Module):
    """A control: what the teacher says of a batch, given to other samples of the batch."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, tensors: Mapping[str, Tensor]) -> Forward:
        seen: Forward = self.teacher(tensors)
        order = torch.randperm(len(seen.z)).to(seen.z.device)
        return Forward(seen.features, seen.z[order], seen.output[order])


def train_student(
    setting: Setting,
    available: tuple[str, ...],
    encoders: dict[str, dict[str, Any]],
    tnet_weights: dict[str, Any],
    teachers: Teachers,
    method: Method,
) -> tuple[Student, FitReport, dict[str, float]]:
    """A student for `available`, from stage 0's encoders, and from stage 2's T-Nets if the method has them.

    Also returns the weights of the method's terms.
    """
    config = setting.config.student
    student = setting.new_student(available, hallucinates=method.hallucinates)
    for name in available:
        student.encoders[name].load_state_dict(encoders[name])
    if method.trained_tnet:
        student.tnets.load_state_dict(tnet_weights)
    if config.trainable == "fusion":
        student.encoders.requires_grad_(False)
        student.tnets.requires_grad_(not method.trained_tnet)  # what no stage 2 has trained has to learn now
    train = setting.train.with_all(setting.config.modalities)
    select = setting.select.with_all(setting.config.modalities)
    for teacher in teachers:
        teacher.eval()
    student.eval()
    weights = term_weights(setting, student, teachers, method)

    def step(batch: Batch, noise: torch.Generator) -> Tensor:
        return student_loss(student, teachers, setting.augmented(batch, noise), config, method, weights)

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
    return student, report, weights


def term_weights(setting: Setting, student: Student, teachers: Teachers, method: Method) -> dict[str, float]:
    """The paper's weight, or the balanced ones, which depend on nothing but the run's start: a resumed run has them."""
    config = setting.config.student
    if not method.balanced:
        return dict.fromkeys(method.terms, config.ot_weight)
    torch.manual_seed(setting.config.seed)  # a shuffled teacher draws
    return balanced_weights(student, teachers.source, setting.some_batches(), method.terms, config)


def student_loss(
    student: Student,
    teachers: Teachers,
    batch: Batch,
    config: StudentConfig,
    method: Method,
    weights: Mapping[str, float],
) -> Tensor:
    """The weighted sum for one batch; teachers give numbers, and no gradient reaches them."""
    out = student(batch.tensors)
    loss = task_loss(out.output, batch.targets)
    seen = seen_by(teachers.joint, batch) if method.trained_tnet else None
    if seen is not None:
        errors = [
            mean_squared(out.features[name], seen.features[name], student.tnet(name).spread)
            for name in student.hallucinated
        ]
        loss = loss + config.tnet_weight * torch.stack(errors).mean()
    if weights:
        source = seen if seen is not None and teachers.source is teachers.joint else seen_by(teachers.source, batch)
        for name, weight in weights.items():
            loss = loss + weight * TERMS[name](out, source, batch.targets, config)
    return loss

"""MT-PKDOT: three teachers in one space; of each batch, or of each sample, the one that knows the task best teaches.

Aslam et al., arXiv 2408.09035. A choice by the task's loss on the very clips that the teachers were fitted to favours
the best memory: here the losses that choose are cross-fitted. Axes: B windows.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.nets.adapters import AlignedTeachers
from models.nets.heads import ValuesHead
from models.nets.teacher import Forward, Teacher
from models.spec import Task
from training.data.window_set import Batch, WindowSet
from training.loop.loop import Bench, FitReport, fit
from training.losses.multi import alignment_loss, sample_losses
from training.stage_config import Choice
from training.stages.memory import joined
from training.stages.setting import EVALUATION_BATCH, Setting, gathered
from training.stages.sources import Lesson, Source, by_fold

ORDER = ("joint", "prevalent", "privileged")
"""Ties go to the first."""


def align_teachers(
    setting: Setting, joint: Teacher, prevalent: Teacher, privileged: Teacher, windows: WindowSet, *, name: str
) -> tuple[AlignedTeachers, FitReport]:
    """Train adapters, heads, and the joint fusion: alignment to the joint space, and each one's task loss."""
    config = setting.config
    torch.manual_seed(config.seed)
    net = AlignedTeachers(
        joint, prevalent, privileged, dim=config.network.dim, task=config.task, outputs=setting.outputs
    ).to(setting.device)
    for head in net.heads.values():
        if isinstance(head, ValuesHead):
            head.standardise(windows.labelled().targets)
    chosen = setting.selection

    def step(batch: Batch, noise: torch.Generator, _: float) -> Tensor:
        batch = setting.augmented(batch, noise)
        return _alignment(setting, _said(setting, net, batch), batch.targets)

    @torch.no_grad()
    def score() -> float:
        parts = [net(batch.to(setting.device).tensors) for batch in chosen.batches(EVALUATION_BATCH)]
        said = {who: joined([part[who] for part in parts]) for who in ORDER}
        return float(_alignment(setting, said, chosen.targets.to(setting.device)))

    report = fit(
        net,
        [p for p in net.parameters() if p.requires_grad],
        step,
        score,
        windows.labelled(),
        config.teacher,
        Bench(config.seed, "align teachers", setting.scratch / f"{name}.state", setting.track),
    )
    return net, report


def _alignment(setting: Setting, said: Mapping[str, Forward], targets: Tensor) -> Tensor:
    """What is made small: how far both modality-specific teachers are from the joint one, and the three task losses."""
    task = {who: setting.task_loss(out.output, targets) for who, out in said.items()}
    aligned = alignment_loss(said["prevalent"].z, said["privileged"].z, said["joint"].z)
    return aligned + 0.5 * (task["joint"] + 0.5 * task["prevalent"] + 0.5 * task["privileged"])


def _said(setting: Setting, net: AlignedTeachers, batch: Batch) -> dict[str, Forward]:
    with setting.autocast():
        said: dict[str, Forward] = net(batch.tensors)
    return {who: gathered(out) for who, out in said.items()}


def best_of_several(
    setting: Setting, teachers: AlignedTeachers, cross_fitted: Sequence[AlignedTeachers], fold: Tensor, choice: Choice
) -> Source:
    """Of each batch, or of each sample, the representation of lowest cross-fitted task loss; the joint one for ties.

    It is also the joint one for a batch, or a sample, without a label. By sample, a batch holds what several teachers
    said, and the terms compare it as if one had: that is right for `AlignedTeachers` alone, whose space is one.
    """
    for net in (teachers, *cross_fitted):
        net.eval()

    @torch.no_grad()
    def teach(batch: Batch, _: Forward) -> Lesson:
        said = setting.all_heard(teachers, batch)
        if not bool(batch.labelled.any()):
            return Lesson(said["joint"])
        own = fold.to(batch.person.device)[batch.person]  # (B,)
        unseen = [setting.all_heard(net, batch) for net in cross_fitted]
        outputs = [by_fold([one[who] for one in unseen], own).output for who in ORDER]
        if choice == "sample":
            standardised = [setting.standardised(output) for output in outputs]
            best = best_of_each(setting.config.task, standardised, setting.standardised(batch.targets))
            return Lesson(by_fold([said[who] for who in ORDER], best))
        losses = [float(setting.task_loss(output, batch.targets)) for output in outputs]
        return Lesson(said[ORDER[losses.index(min(losses))]])

    return teach


def best_of_each(task: Task, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
    """int64 (B,): which of `outputs`, each (B, ...), has the lowest loss on each sample; ties go to the first.

    A sample without a target is a tie.
    """
    return torch.stack([sample_losses(task, output, targets) for output in outputs]).argmin(0)

"""MT-PKDOT: three teachers in one space, and in each batch the one that knows the task best teaches.

Aslam et al., arXiv 2408.09035. A choice by the task's loss on the very clips that the teachers were fitted to favours
the best memory: here the losses that choose are cross-fitted. Axes: B windows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.nets.adapters import AlignedTeachers
from models.nets.teacher import Forward, Teacher
from training.data import Batch, WindowSet
from training.loop import Bench, FitReport, fit
from training.losses.multi import alignment_loss
from training.stages.setting import Setting, gathered
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
    chosen = setting.selection

    def loss(batch: Batch) -> Tensor:
        said = _said(setting, net, batch)
        task = {who: setting.task_loss(out.output, batch.targets) for who, out in said.items()}
        aligned = alignment_loss(said["prevalent"].z, said["privileged"].z, said["joint"].z)
        return aligned + 0.5 * (task["joint"] + 0.5 * task["prevalent"] + 0.5 * task["privileged"])

    def score() -> float:
        with torch.no_grad():
            return float(loss(chosen.batch(torch.arange(len(chosen))).to(setting.device)))

    report = fit(
        net,
        [p for p in net.parameters() if p.requires_grad],
        lambda batch, noise, _: loss(setting.augmented(batch, noise)),
        score,
        windows.labelled(),
        config.teacher,
        Bench(config.seed, "align teachers", setting.scratch / f"{name}.state", setting.track),
    )
    return net, report


def _said(setting: Setting, net: AlignedTeachers, batch: Batch) -> dict[str, Forward]:
    with setting.autocast():
        said: dict[str, Forward] = net(batch.tensors)
    return {who: gathered(out) for who, out in said.items()}


def best_of_several(
    setting: Setting, teachers: AlignedTeachers, cross_fitted: Sequence[AlignedTeachers], fold: Tensor
) -> Source:
    """In each batch the representation of lowest cross-fitted task loss; the joint one where nothing is labelled."""
    for net in (teachers, *cross_fitted):
        net.eval()

    @torch.no_grad()
    def teach(batch: Batch, _: Forward) -> Lesson:
        said = _said(setting, teachers, batch)
        if not bool(batch.labelled.any()):
            return Lesson(said["joint"])
        own = fold.to(batch.person.device)[batch.person]  # (B,)
        unseen = [_said(setting, net, batch) for net in cross_fitted]
        losses = {
            who: float(setting.task_loss(by_fold([one[who] for one in unseen], own).output, batch.targets))
            for who in ORDER
        }
        return Lesson(said[min(ORDER, key=losses.__getitem__)])

    return teach

"""Stage 1: the teacher, with every modality, on the task alone."""

from typing import Any

import torch
from torch import Tensor

from models.nets.teacher import Teacher
from training.data import Batch
from training.loop import FitReport, fit
from training.losses.task import task_loss
from training.stages.setting import Setting, selection_loss


def train_teacher(
    setting: Setting, encoders: dict[str, dict[str, Any]], modalities: tuple[str, ...]
) -> tuple[Teacher, FitReport]:
    """A trained teacher that sees `modalities`; its encoders started from stage 0.

    One that sees fewer than all is a control, and learns from the same windows as the others.
    """
    config = setting.config
    teacher = setting.new_teacher(modalities)
    for name in modalities:
        teacher.encoders[name].load_state_dict(encoders[name])
    train, select = setting.train.with_all(config.modalities), setting.select.with_all(config.modalities)

    def step(batch: Batch, noise: torch.Generator) -> Tensor:
        batch = setting.augmented(batch, noise)
        return task_loss(teacher(batch.tensors).output, batch.targets)

    report = fit(
        teacher,
        teacher.parameters(),
        step,
        lambda: selection_loss(teacher, select, setting.device),
        train,
        config.teacher,
        seed=config.seed,
        label=f"teacher: {'+'.join(modalities)}",
        state_file=setting.scratch / f"teacher-{'+'.join(modalities)}.state",
    )
    return teacher, report

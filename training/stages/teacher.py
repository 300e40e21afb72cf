"""Stage 1: the teacher, with every modality, on the task alone."""

from typing import Any

import torch
from torch import Tensor

from models.nets.teacher import Teacher
from training.data import Batch
from training.loop import FitReport, fit
from training.losses.task import task_loss
from training.stages.setting import Setting, selection_loss


def train_teacher(setting: Setting, encoders: dict[str, dict[str, Any]]) -> tuple[Teacher, FitReport]:
    """A trained teacher whose encoders started from stage 0."""
    config = setting.config
    teacher = setting.new_teacher(config.modalities)
    for name in config.modalities:
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
        label="teacher",
        state_file=setting.scratch / "teacher.state",
    )
    return teacher, report

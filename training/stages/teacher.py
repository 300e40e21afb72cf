"""Stage 1: the teacher, with every modality, on the task alone."""

from typing import Any

from models.nets.teacher import Teacher
from training.loop import FitReport
from training.stages.setting import Setting
from training.stages.task import fit_to_task


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
    report = fit_to_task(
        setting,
        teacher,
        train,
        select,
        config.teacher,
        label=f"teacher: {'+'.join(modalities)}",
        state_name=f"teacher-{'+'.join(modalities)}",
    )
    return teacher, report

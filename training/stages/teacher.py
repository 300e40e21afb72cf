"""Stage 1: the teacher, with every modality, on the task alone."""

from collections.abc import Mapping
from typing import Any

from models.nets.teacher import Teacher
from training.loop.loop import FitReport
from training.stages.setting import Setting
from training.stages.task import fit_to_task


def train_teacher(
    setting: Setting,
    encoders: Mapping[str, Mapping[str, Any]],
    modalities: tuple[str, ...],
    *,
    name: str,
) -> tuple[Teacher, FitReport]:
    """A trained teacher that sees `modalities`; its encoders started from stage 0.

    One that sees fewer than all is a control, and learns from the same windows as the others.
    """
    config = setting.config
    teacher = setting.new_teacher(modalities)
    for modality in modalities:
        teacher.encoders[modality].load_state_dict(encoders[modality])
    report = fit_to_task(
        setting,
        teacher,
        setting.pairs,
        setting.selection,
        config.teacher,
        label=f"teacher: {'+'.join(modalities)}",
        state_name=name,
    )
    return teacher, report

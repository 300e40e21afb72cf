"""Stage 2: the T-Net learns the teacher's features of what is missing from those of what is there."""

from typing import Any

import torch
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Teacher
from training.data import Batch, WindowSet
from training.loop import FitReport, fit
from training.stages.setting import Setting, mean_squared, run_over

TARGET = "target:"
"""Prefix of the teacher's features among a feature batch's tensors."""


def train_tnets(
    setting: Setting, available: tuple[str, ...], encoders: dict[str, dict[str, Any]], teacher: Teacher
) -> tuple[Student, FitReport]:
    """A student with stage 0's encoders and trained T-Nets; its fusion and head are new."""
    config = setting.config
    student = setting.new_student(available)
    for name in available:
        student.encoders[name].load_state_dict(encoders[name])
    train = _features(setting, setting.train.with_all(config.modalities), student, teacher)
    select = _features(setting, setting.select.with_all(config.modalities), student, teacher)
    for name in student.hallucinated:
        student.tnet(name).standardise(train.tensors[TARGET + name])

    def loss(batch: Batch) -> Tensor:
        tensors = batch.to(setting.device).tensors
        losses = [
            mean_squared(student.tnets[name](tensors), tensors[TARGET + name], student.tnet(name).spread)
            for name in student.hallucinated
        ]
        return torch.stack(losses).mean()

    def score() -> float:
        with torch.no_grad():
            return float(loss(select.batch(torch.arange(len(select)))))

    report = fit(
        student,
        student.tnets.parameters(),
        lambda batch, _: loss(batch),
        score,
        train,
        config.tnet,
        seed=config.seed,
        label=f"T-Net: {'+'.join(available)} to {'+'.join(student.hallucinated)}",
        state_file=setting.scratch / f"tnet-{'+'.join(available)}.state",
    )
    return student, report


def hallucination_r2(setting: Setting, student: Student, teacher: Teacher, windows: WindowSet) -> dict[str, float]:
    """R² of each hallucinated modality against the training mean, over windows that have every modality."""
    both = windows.with_all(setting.config.modalities)
    made = run_over(student, both, setting.device).features
    real = run_over(teacher, both, setting.device).features
    centres = {name: student.tnet(name).centre.cpu() for name in student.hallucinated}
    return {
        name: 1.0 - float((made[name] - real[name]).square().sum() / (real[name] - centres[name]).square().sum())
        for name in student.hallucinated
    }


def _features(setting: Setting, windows: WindowSet, student: Student, teacher: Teacher) -> WindowSet:
    """The same windows with encoded features (N, L, D) in place of their tensors: frozen encoders run only once."""
    encoded = run_over(student, windows, setting.device).features
    targets = run_over(teacher, windows, setting.device).features
    tensors = {name: encoded[name] for name in student.available} | {
        TARGET + name: targets[name] for name in student.hallucinated
    }
    return WindowSet(tensors, {}, windows.targets, windows.person, windows.clip, windows.spans_s, windows.people)

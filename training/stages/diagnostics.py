"""Why structural OT gives something, or nothing: numbers that every run logs beside its scores.

A teacher that has collapsed onto the labels has nothing to tell beyond them; anchors that are all alike say nothing
about a sample; a transport that ignores which sample is which compares the clouds only; and a term whose gradient is
tiny beside the task's changes nothing.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Teacher
from models.outputs import corn_probabilities
from training.data import Batch, WindowSet, deal_batches
from training.losses.ot import anchor_columns, anchor_rows, similarity, structural_ot
from training.losses.sinkhorn import coupling
from training.losses.task import ccc, task_loss
from training.stages.setting import Setting, run_over

BATCHES = 4


def structure_diagnostics(setting: Setting, student: Student, teacher: Teacher) -> dict[str, float]:
    """Means over some batches of training people, in evaluation mode.

    `teacher_train`, `teacher_selection`: accuracy, or mean CCC, over windows. `coupling_same_sample` (chance is 1 / B)
    and `coupling_same_level`: shares of the coupling's mass. `anchor_spread`, `similarity_spread`: standard deviations
    of the teacher's gathered rows and of all its similarities. `gradient_ratio`: |ot_weight dL_OT/dz| / |dL_task/dz|.
    """
    modalities = setting.config.modalities
    train, select = setting.train.with_all(modalities), setting.select.with_all(modalities)
    dealt = deal_batches(train.person, setting.config.student.batch, np.random.default_rng(setting.config.seed))
    batches = [train.batch(index).to(setting.device) for index, _ in zip(dealt, range(BATCHES), strict=False)]
    student.eval()
    teacher.eval()
    found = [_of_batch(setting, student, teacher, batch) for batch in batches]
    means = {name: float(np.mean([values[name] for values in found])) for name in found[0]}
    return means | {
        "teacher_train": _window_score(setting, teacher, train),
        "teacher_selection": _window_score(setting, teacher, select),
    }


def _of_batch(setting: Setting, student: Student, teacher: Teacher, batch: Batch) -> dict[str, float]:
    config = setting.config.student
    with torch.no_grad():
        z_teacher = teacher(batch.tensors).z
        z = student(batch.tensors).z
    k = min(config.k, len(z))
    s_teacher = similarity(z_teacher)  # (B, B)
    columns = anchor_columns(s_teacher, k, config.anchors)  # (B, k)
    scale = k**-0.5 if config.normalise else 1.0
    rows, rows_teacher = (anchor_rows(s, columns) * scale for s in (similarity(z), s_teacher))
    plan = coupling(rows, rows_teacher, blur=config.blur)  # (B, B)
    task = _gradient(z, lambda at: task_loss(student.head(at), batch.targets))
    ot = _gradient(
        z,
        lambda at: structural_ot(
            at, z_teacher, k=k, anchors=config.anchors, blur=config.blur, normalise=config.normalise
        ),
    )
    found = {
        "coupling_same_sample": float(plan.diagonal().sum()),
        "anchor_spread": float(anchor_rows(s_teacher, columns).std()),
        "similarity_spread": float(s_teacher.std()),
        "gradient_ratio": config.ot_weight * ot / max(task, 1e-12),
    }
    if setting.config.task == "pain":
        found["coupling_same_level"] = float(plan[batch.targets[:, None] == batch.targets[None, :]].sum())
    return found


def _gradient(z: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """The norm of the loss's gradient at z (B, D)."""
    z = z.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(z), z)
    return float(gradient.norm())


def _window_score(setting: Setting, teacher: Teacher, windows: WindowSet) -> float:
    output = run_over(teacher, windows, setting.device).output
    if setting.config.task == "pain":
        return float((corn_probabilities(output.numpy()).argmax(axis=1) == windows.targets.numpy()).mean())
    return float(ccc(output, windows.targets).mean())

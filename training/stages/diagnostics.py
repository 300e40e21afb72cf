"""Why structural OT gives something, or nothing: numbers that every run logs beside its scores.

A teacher that has collapsed onto the labels has nothing to tell beyond them; anchors that are all alike say nothing
about a sample; a transport that ignores which sample is which compares the clouds only; and a term whose gradient is
tiny beside the task's changes nothing.
"""

import numpy as np

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.outputs import corn_probabilities
from training.data import Batch, WindowSet
from training.losses.ot import profiles, similarity
from training.losses.sinkhorn import coupling
from training.losses.task import ccc, task_loss
from training.stages.setting import Setting, run_over
from training.stages.terms import TERMS, gradient_at_z, seen_by


def structure_diagnostics(
    setting: Setting, student: Student, teacher: Teacher, *, ot_weight: float
) -> dict[str, float]:
    """Means over some batches of training people, in evaluation mode.

    `teacher_train`, `teacher_selection`: accuracy, or mean CCC, over windows. `coupling_same_sample` (chance is 1 / B)
    and `coupling_same_level`: shares of the coupling's mass. `anchor_spread`, `similarity_spread`: standard deviations
    of the teacher's gathered rows and of all its similarities. `gradient_ratio`: |ot_weight dL_OT/dz| / |dL_task/dz|.
    """
    modalities = setting.config.modalities
    train, select = setting.train.with_all(modalities), setting.select.with_all(modalities)
    student.eval()
    teacher.eval()
    found = [_of_batch(setting, student, teacher, batch, ot_weight) for batch in setting.some_batches()]
    means = {name: float(np.mean([values[name] for values in found])) for name in found[0]}
    return means | {
        "teacher_train": _window_score(setting, teacher, train),
        "teacher_selection": _window_score(setting, teacher, select),
    }


def _of_batch(setting: Setting, student: Student, teacher: Teacher, batch: Batch, ot_weight: float) -> dict[str, float]:
    config = setting.config.student
    own, seen = seen_by(student, batch), seen_by(teacher, batch)
    s_teacher = similarity(seen.z)  # (B, B)
    rows = profiles(similarity(own.z), s_teacher, k=config.k, anchors=config.anchors, normalise=config.normalise)
    plan = coupling(*rows, blur=config.blur)  # (B, B)
    task = gradient_at_z(own.z, lambda z: task_loss(student.head(z), batch.targets))
    ot = gradient_at_z(own.z, lambda z: TERMS["OT"](Forward(own.features, z, own.output), seen, batch.targets, config))
    found = {
        "coupling_same_sample": float(plan.diagonal().sum()),
        "anchor_spread": float(rows[1].std()),
        "similarity_spread": float(s_teacher.std()),
        "gradient_ratio": ot_weight * ot / max(task, 1e-12),
    }
    if setting.config.task == "pain":
        found["coupling_same_level"] = float(plan[batch.targets[:, None] == batch.targets[None, :]].sum())
    return found


def _window_score(setting: Setting, teacher: Teacher, windows: WindowSet) -> float:
    output = run_over(teacher, windows, setting.device).output
    if setting.config.task == "pain":
        return float((corn_probabilities(output.numpy()).argmax(axis=1) == windows.targets.numpy()).mean())
    return float(ccc(output, windows.targets).mean())

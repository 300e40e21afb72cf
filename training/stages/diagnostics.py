"""Why structural OT gives something, or nothing: numbers that every run logs beside its scores.

A teacher that has collapsed onto the labels has nothing to tell beyond them; anchors that are all alike say nothing
about a sample; a transport that ignores which sample is which compares the clouds only; and a term whose gradient is
tiny beside the task's changes nothing.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.outputs import label_probabilities
from training.data import Batch, WindowSet
from training.losses.ot import profiles, similarity
from training.losses.sinkhorn import coupling
from training.losses.task import ccc
from training.stage_config import StudentConfig
from training.stages.setting import Setting, run_over
from training.stages.terms import Seen, StructuralOT, TermSpec, apart, gradient_at_z, less_the_mean


def structure_diagnostics(
    setting: Setting, student: Student, teacher: Teacher, config: StudentConfig, *, ot_weight: float
) -> dict[str, float]:
    """Means over some batches of training people, in evaluation mode.

    `teacher_train`, `teacher_selection`: accuracy, or mean CCC, over windows. `coupling_same_sample` (chance is 1 / B)
    and `coupling_same_level`: shares of the coupling's mass. `anchor_spread`, `similarity_spread`: standard deviations
    of the teacher's gathered rows and of all its similarities. `gradient_ratio`: |ot_weight dL_OT/dz| / |dL_task/dz|.
    """
    student.eval()
    teacher.eval()
    plain = config.model_copy(update={"projection": 0, "bank": 0})
    term = StructuralOT(TermSpec(plain, setting.config.task, setting.config.network.dim)).to(setting.device)
    found = [_of_batch(setting, student, teacher, batch, term, ot_weight) for batch in setting.some_batches()]
    means = {name: float(np.mean([values[name] for values in found])) for name in found[0]}
    return means | {
        "teacher_train": _window_score(setting, teacher, setting.pairs.labelled()),
        "teacher_selection": _window_score(setting, teacher, setting.selection),
    }


def matrices(
    setting: Setting, student: Student, teacher: Teacher, config: StudentConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For a plot: the teacher's and the student's similarities (B, B), the coupling (B, B), and targets (B, ...)."""
    batch = next(iter(setting.some_batches()))
    found = _structure(setting.seen(student, batch), setting.seen(teacher, batch), batch, config)
    return found.teacher, found.student, found.plan, batch.targets


class _Structure(NamedTuple):
    """Similarities (B, B) of teacher and student, the teacher's rows at its anchors (B, k), and the coupling (B, B)."""

    teacher: Tensor
    student: Tensor
    rows: Tensor
    plan: Tensor


def _structure(own: Forward, seen: Forward, batch: Batch, config: StudentConfig) -> _Structure:
    """What PKDOT's term sees of a batch, whatever the row's term is made of."""
    s_student, s_teacher = (similarity(less_the_mean(out.z, batch.person, config)) for out in (own, seen))
    k = min(config.k, len(s_teacher))
    rows = profiles(s_student, s_teacher, k=k, anchors=config.anchors, normalise=config.normalise)
    plan = coupling(*rows, blur=config.blur, pair_cost=config.pair_cost, apart=apart(batch.targets, config))
    return _Structure(s_teacher, s_student, rows[1], plan)


def _of_batch(
    setting: Setting, student: Student, teacher: Teacher, batch: Batch, term: StructuralOT, ot_weight: float
) -> dict[str, float]:
    own, seen = setting.seen(student, batch), setting.seen(teacher, batch)
    structure = _structure(own, seen, batch, term.config)
    plan = structure.plan
    task = gradient_at_z(own.z, lambda z: setting.task_loss(student.head(z), batch.targets))
    ot = gradient_at_z(
        own.z, lambda z: term(Seen(Forward(own.features, z, own.output), seen, batch.targets, batch.person))
    )
    found = {
        "coupling_same_sample": float(plan.diagonal().sum()),
        "anchor_spread": float(structure.rows.std()),
        "similarity_spread": float(structure.teacher.std()),
        "gradient_ratio": ot_weight * ot / max(task, 1e-12),
    }
    if batch.targets.ndim == 1:
        known = batch.labelled[:, None] & batch.labelled[None, :]
        same = known & (batch.targets[:, None] == batch.targets[None, :])
        found["coupling_same_level"] = float(plan[same].sum() / plan[known].sum().clamp(min=1e-12))
    return found


def _window_score(setting: Setting, teacher: Teacher, windows: WindowSet) -> float:
    output = run_over(teacher, windows, setting.device).output
    task = setting.config.task
    if task == "pain" or task == "classification":
        said = label_probabilities(task, output.numpy())
        return float((said.argmax(axis=1) == windows.targets.numpy()).mean())
    return float(ccc(output, windows.targets).mean())

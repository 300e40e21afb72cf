"""Why structural OT gives something, or nothing: numbers that every run logs beside its scores.

A teacher that has collapsed onto the labels has nothing to tell beyond them; anchors that are all alike say nothing
about a sample; a transport that ignores which sample is which compares the clouds only; and a term whose gradient is
tiny beside the task's changes nothing.
"""

import numpy as np
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.outputs import corn_probabilities, softmax_probabilities
from training.data import Batch, WindowSet
from training.losses.ot import centred, profiles, similarity
from training.losses.sinkhorn import coupling
from training.losses.task import ccc
from training.stage_config import StudentConfig
from training.stages.setting import Setting, run_over
from training.stages.terms import Seen, StructuralOT, TermSpec, gradient_at_z


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
    own, seen = setting.seen(student, batch), setting.seen(teacher, batch)
    s_teacher, s_student = _similarities(own.z, seen.z, batch, config)
    plan = _plan(s_student, s_teacher, config)
    return s_teacher, s_student, plan, batch.targets


def _similarities(z_student: Tensor, z_teacher: Tensor, batch: Batch, config: StudentConfig) -> tuple[Tensor, Tensor]:
    if config.centre != "none":
        groups = batch.person if config.centre == "person" else None
        z_student, z_teacher = centred(z_student, groups), centred(z_teacher, groups)
    return similarity(z_teacher), similarity(z_student)


def _plan(s_student: Tensor, s_teacher: Tensor, config: StudentConfig) -> Tensor:
    rows = _rows(s_student, s_teacher, config)
    return coupling(*rows, blur=config.blur, pair_cost=config.pair_cost)


def _rows(s_student: Tensor, s_teacher: Tensor, config: StudentConfig) -> tuple[Tensor, Tensor]:
    k = min(config.k, len(s_teacher))
    return profiles(s_student, s_teacher, k=k, anchors=config.anchors, normalise=config.normalise)


def _of_batch(
    setting: Setting, student: Student, teacher: Teacher, batch: Batch, term: StructuralOT, ot_weight: float
) -> dict[str, float]:
    own, seen = setting.seen(student, batch), setting.seen(teacher, batch)
    s_teacher, s_student = _similarities(own.z, seen.z, batch, term.config)  # (B, B)
    plan = _plan(s_student, s_teacher, term.config)  # (B, B)
    task = gradient_at_z(own.z, lambda z: setting.task_loss(student.head(z), batch.targets))
    ot = gradient_at_z(
        own.z, lambda z: term(Seen(Forward(own.features, z, own.output), seen, batch.targets, batch.person))
    )
    found = {
        "coupling_same_sample": float(plan.diagonal().sum()),
        "anchor_spread": float(_rows(s_student, s_teacher, term.config)[1].std()),
        "similarity_spread": float(s_teacher.std()),
        "gradient_ratio": ot_weight * ot / max(task, 1e-12),
    }
    if batch.targets.ndim == 1:
        known = batch.labelled[:, None] & batch.labelled[None, :]
        same = known & (batch.targets[:, None] == batch.targets[None, :])
        found["coupling_same_level"] = float(plan[same].sum() / plan[known].sum().clamp(min=1e-12))
    return found


def _window_score(setting: Setting, teacher: Teacher, windows: WindowSet) -> float:
    output = run_over(teacher, windows, setting.device).output
    if windows.targets.ndim == 1:
        to_probabilities = corn_probabilities if setting.config.task == "pain" else softmax_probabilities
        return float((to_probabilities(output.numpy()).argmax(axis=1) == windows.targets.numpy()).mean())
    return float(ccc(output, windows.targets).mean())

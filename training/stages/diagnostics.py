"""Why structural OT gives something, or nothing: numbers that every run logs beside its scores.

A teacher that has collapsed onto the labels has nothing to tell beyond them; anchors that are all alike say nothing
about a sample; a transport that ignores which sample is which compares the clouds only; and a term whose gradient is
tiny beside the task's changes nothing. All are of the row's own teacher and of the term that it was trained with.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward
from models.outputs import label_probabilities
from training.data.window_set import Batch, WindowSet
from training.loop.distributed import local_part
from training.losses.ot import similarity
from training.losses.sinkhorn import coupling
from training.losses.task import ccc
from training.stages.bank import BankOT
from training.stages.material import Material
from training.stages.methods import Method
from training.stages.setting import Setting
from training.stages.sources import Lesson
from training.stages.terms import Seen, StructuralOT, apart, compared_windows, gradient_at_z, term_loss


class Measured(NamedTuple):
    """A row after its training."""

    student: Student
    term: nn.Module
    """Its structural OT: `StructuralOT` or `BankOT`."""
    material: Material


def structure_diagnostics(
    setting: Setting, measured: Measured, method: Method, *, ot_weight: float
) -> dict[str, float | None]:
    """Means over some batches of training people, in evaluation mode; None where a number means nothing for the row.

    `teacher_train`, `teacher_selection`: accuracy, or mean CCC, over windows, of what the row's teacher tells the
    terms; selection people have none where several teachers share the training people. `coupling_same_sample` (chance
    is 1 / B) and `coupling_same_level`: shares of the coupling's mass. `anchor_spread`, `similarity_spread`: standard
    deviations of the teacher's gathered rows and of all its similarities. `gradient_ratio`:
    |ot_weight dL_OT/dz| / |dL_task/dz|. What several teachers said is compared within each: B is then the number of
    one's windows in the batch, and spreads are means over the teachers.
    """
    torch.manual_seed(setting.config.seed)  # a shuffled teacher draws: the same after a kill
    measured.student.eval()
    measured.material.teacher.eval()
    found = [_of_batch(setting, measured, batch, ot_weight) for batch in _batches(setting, measured)]
    shared = method.teacher in ("cross-fitted", "multi")  # by part of the training people, or by their targets
    return {name: _mean(values[name] for values in found) for name in found[0]} | {
        "teacher_train": _teacher_score(setting, measured.material, setting.pairs.labelled()),
        "teacher_selection": None if shared else _teacher_score(setting, measured.material, setting.selection),
    }


def matrices(setting: Setting, measured: Measured) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For a plot: the teacher's and the student's similarities (B, B), the coupling (B, B), and targets (B, ...).

    Similarities are NaN between windows that different teachers speak of: the term compares none of them.
    """
    torch.manual_seed(setting.config.seed)
    measured.student.eval()
    measured.material.teacher.eval()
    batch = next(_batches(setting, measured))
    seen, lesson = _seen(setting, measured, batch)
    found = _structure(measured.term, seen, lesson.block)
    return found.teacher, found.student, found.plan, batch.targets


def _batches(setting: Setting, measured: Measured) -> Iterator[Batch]:
    assert isinstance(measured.term, StructuralOT | BankOT)  # nn.ModuleDict knows its members as Module only
    return setting.some_batches(measured.term.config.windows_each)


class _Structure(NamedTuple):
    """Similarities (B, B) of student and teacher, NaN where they are not compared, the coupling (B, B), and spreads."""

    student: Tensor
    teacher: Tensor
    plan: Tensor
    anchor_spread: float
    similarity_spread: float


@torch.no_grad()
def _structure(term: nn.Module, seen: Seen, block: Tensor | None) -> _Structure:
    """What the row's term sees of a batch, each teacher's windows by themselves."""
    assert isinstance(term, StructuralOT | BankOT)  # nn.ModuleDict knows its members as Module only
    n, device = len(seen.student.z), seen.student.z.device
    student, teacher = torch.full((2, n, n), torch.nan, device=device)
    plan = torch.zeros(n, n, dtype=torch.float64, device=device)
    spreads, windows = torch.zeros(2), 0
    for rows in compared_windows(torch.zeros(n, device=device) if block is None else block):
        own, pairs, c = seen.at(rows), rows[:, None] & rows[None, :], term.config
        clouds, (s_student, s_teacher) = term.clouds(own), map(similarity, term.compared(own))
        student[pairs], teacher[pairs] = s_student.flatten(), s_teacher.flatten()
        moved = coupling(*clouds, blur=c.blur, pair_cost=c.pair_cost, apart=apart(own.targets, c))
        plan[pairs] = len(own.targets) * moved.flatten()
        spreads += len(own.targets) * torch.tensor([float(clouds[1].std()), float(s_teacher.std())])
        windows += len(own.targets)
    anchor_spread, similarity_spread = (spreads / windows).tolist()
    return _Structure(student, teacher, plan / windows, anchor_spread, similarity_spread)


def _seen(setting: Setting, measured: Measured, batch: Batch) -> tuple[Seen, Lesson]:
    """What the row's term compares, and who taught it."""
    lesson = _lesson(setting, measured.material, batch)
    return Seen(setting.seen(measured.student, batch), lesson.forward, batch.targets, batch.person), lesson


def _lesson(setting: Setting, material: Material, batch: Batch) -> Lesson:
    return material.source(batch, setting.heard(material.teacher, batch))


def _of_batch(setting: Setting, measured: Measured, batch: Batch, ot_weight: float) -> dict[str, float]:
    student, term, _ = measured
    seen, lesson = _seen(setting, measured, batch)
    own = seen.student
    structure = _structure(term, seen, lesson.block)
    plan = structure.plan
    task = gradient_at_z(own.z, lambda z: setting.task_loss(student.head(z), batch.targets))
    ot = gradient_at_z(
        own.z, lambda z: term_loss(term, seen._replace(student=Forward(own.features, z, own.output)), lesson.block)
    )
    found = {
        "coupling_same_sample": float(plan.diagonal().sum()),
        "anchor_spread": structure.anchor_spread,
        "similarity_spread": structure.similarity_spread,
        "gradient_ratio": ot_weight * ot / max(task, 1e-12),
    }
    if batch.targets.ndim == 1:
        known = batch.labelled[:, None] & batch.labelled[None, :]
        same = known & (batch.targets[:, None] == batch.targets[None, :])
        found["coupling_same_level"] = float(plan[same].sum() / plan[known].sum().clamp(min=1e-12))
    return found


def _mean(values: Iterable[float]) -> float | None:
    """Over the batches in which some teacher had windows to compare."""
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else None


def _teacher_score(setting: Setting, material: Material, windows: WindowSet) -> float:
    """Of what the terms are told of `windows`, in batches that mix people as those of the training do."""
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(setting.config.seed))
    count = -(-len(windows) // setting.config.student.batch)
    parts = order.tensor_split(count)
    batches = (windows.batch(index, local_part(len(index))).to(setting.device) for index in parts)
    output = torch.cat([_lesson(setting, material, batch).forward.output.cpu() for batch in batches])
    targets, task = windows.targets[order], setting.config.task
    if task == "pain" or task == "classification":
        said = label_probabilities(task, output.numpy())
        return float((said.argmax(axis=1) == targets.numpy()).mean())
    return float(ccc(output, targets).mean())

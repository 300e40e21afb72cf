"""Who teaches a student's terms: the joint teacher, several that each saw other people, or a control.

A source is given what the joint teacher says of the batch, which the T-Net needs anyway: nobody looks twice.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.nets.teacher import Forward
from training.data.window_set import Batch
from training.stages.setting import Setting


class Lesson(NamedTuple):
    """What a teacher says of a batch."""

    forward: Forward
    block: Tensor | None = None
    """int64 (B,): which of several teachers said it; None where it was one."""


Source = Callable[[Batch, Forward], Lesson]
"""(batch, what the joint teacher says of it) to what the terms hear."""


def joint_teacher(_: Batch, joint: Forward) -> Lesson:
    """The joint teacher itself."""
    return Lesson(joint)


def shuffled(_: Batch, joint: Forward) -> Lesson:
    """A control: what the joint teacher says of a batch, given to other windows of the batch."""
    order = torch.randperm(len(joint.z)).to(joint.z.device)
    return Lesson(Forward(joint.features, joint.z[order], joint.output[order]))


def one_teacher(setting: Setting, teacher: nn.Module) -> Source:
    """Another teacher, the same for every window."""
    teacher.eval()
    return lambda batch, _: Lesson(setting.heard(teacher, batch))


def cross_fitted(setting: Setting, teachers: Sequence[nn.Module], fold_of_person: Tensor) -> Source:
    """Each window is taught by the teacher whose training did not see its person; `fold_of_person` is int64 (people,).

    A teacher fitted to its own training clips tells little beyond their labels.
    """
    for teacher in teachers:
        teacher.eval()

    def teach(batch: Batch, _: Forward) -> Lesson:
        fold = fold_of_person.to(batch.person.device)[batch.person]  # (B,)
        return Lesson(by_fold([setting.heard(teacher, batch) for teacher in teachers], fold), fold)

    return teach


def by_fold(said: Sequence[Forward], fold: Tensor) -> Forward:
    """Of each window what teacher number fold (B,) said."""
    z, output = (torch.stack([getattr(one, name) for one in said], dim=1) for name in ("z", "output"))  # (B, K, ...)
    rows = torch.arange(len(fold), device=fold.device)
    return Forward({}, z[rows, fold], output[rows, fold])

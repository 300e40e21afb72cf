"""Anchors that do not come from the batch: prototypes over all training people, so that k no longer depends on B.

Axes: B windows, M prototypes, D features.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from models.nets.student import Student
from training.data.window_set import WindowSet
from training.losses.ot import bank_ot, bank_profiles, centred
from training.stage_config import StudentConfig
from training.stages.setting import Setting, run_over
from training.stages.terms import Seen, apart

EMA = 0.99
"""How slowly the student that makes its own side's prototypes follows the one that learns."""


class BankOT(nn.Module):
    """Structural OT between profiles of similarity to M prototypes, one for each class and person, or chosen windows.

    The student's prototypes come from a copy that follows it slowly: anchors that moved with every step would make
    the loss small by moving. Both sides' prototypes are made anew before each epoch.
    """

    def __init__(self, setting: Setting, config: StudentConfig, student: Student, teacher: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.members = _members(setting.pairs, self.config.bank, seed=setting.config.seed)
        windows = setting.pairs
        self.embed: Callable[[nn.Module], Tensor] = lambda net: run_over(net, windows, setting.device).z
        self.live: Callable[[], Student] = lambda: student
        self.student_bank: Tensor
        self.teacher_bank: Tensor
        self.register_buffer("teacher_bank", self._prototypes(teacher).to(setting.device))
        self.register_buffer("student_bank", self._prototypes(student).to(setting.device))

    def refresh(self) -> None:
        """Make the student's prototypes anew."""
        self.student_bank.copy_(self._prototypes(self.ema))

    @torch.no_grad()
    def follow(self) -> None:
        """Let the slow student take a step after the one that learns."""
        for own, other in zip(self.ema.parameters(), self.live().parameters(), strict=True):
            own.lerp_(other, 1.0 - EMA)

    def compared(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The student's z and the teacher's, both (B, D), whose cosines to their banks the term takes."""
        student, teacher = seen.student.z, seen.teacher.z
        if self.config.centre == "batch":
            return student - self.student_bank.mean(0), teacher - self.teacher_bank.mean(0)
        return student, teacher

    def clouds(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The rows between which mass is transported, the student's and the teacher's (B, M)."""
        return bank_profiles(*self.compared(seen), *self._banks(), normalise=self.config.normalise)

    def forward(self, seen: Seen) -> Tensor:
        c = self.config
        return bank_ot(
            *self.compared(seen),
            *self._banks(),
            blur=c.blur,
            pair_cost=c.pair_cost,
            apart=apart(seen.targets, c),
            normalise=c.normalise,
        )

    def _banks(self) -> tuple[Tensor, Tensor]:
        """The prototypes (M, D) of both sides, centred as what is compared with them."""
        if self.config.centre == "batch":
            return centred(self.student_bank), centred(self.teacher_bank)
        return self.student_bank, self.teacher_bank

    def _prototypes(self, net: nn.Module) -> Tensor:
        z = self.embed(net)  # (N, D)
        return torch.stack([z[index].mean(0) for index in self.members])  # (M, D)


def _members(windows: WindowSet, count: int, *, seed: int) -> list[Tensor]:
    """The windows that each of at most `count` prototypes is the mean of."""
    generator = np.random.default_rng([seed, 13])
    if windows.targets.ndim > 1:
        chosen = generator.permutation(len(windows))[:count]
        return [torch.tensor([i]) for i in sorted(chosen.tolist())]
    keys = torch.stack([windows.person, windows.targets], dim=1)[windows.targets >= 0]
    groups = torch.unique(keys, dim=0)
    kept = sorted(generator.permutation(len(groups))[:count].tolist())
    return [((windows.person == person) & (windows.targets == level)).nonzero()[:, 0] for person, level in groups[kept]]

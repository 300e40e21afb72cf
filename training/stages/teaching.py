"""The teachers that a row's terms can have, trained when the first row asks for them and kept in the run's folder."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from torch import nn

from models.nets.adapters import AlignedTeachers
from models.nets.teacher import Teacher
from training.loop.loop import FitReport
from training.run_folder import RunFolder
from training.stage_config import Choice
from training.stages.crossfit import fold_of_person, train_cross_fitted, unseen
from training.stages.encoders import standardise
from training.stages.material import Encoders
from training.stages.methods import Method
from training.stages.multi import align_teachers, best_of_several
from training.stages.setting import Setting
from training.stages.sources import Source, cross_fitted, joint_teacher, one_teacher, shuffled
from training.stages.teacher import train_teacher

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class TeacherFolder:
    """Where a set of available modalities finds its teachers."""

    setting: Setting
    folder: RunFolder
    encoders: Encoders
    joint: Teacher
    available: tuple[str, ...]

    def source(self, method: Method) -> Source:
        """The teacher that a row's terms see."""
        setting, which = self.setting, method.teacher
        if which == "joint":
            return joint_teacher
        if which == "shuffled":
            return shuffled
        if which == "untrained":
            return one_teacher(setting, self._untrained())
        if which == "cross-fitted":
            return cross_fitted(setting, self._crossed(setting.config.modalities), fold_of_person(setting))
        if which == "multi":
            return self._multi(method.change(setting.config.student).teacher_choice)
        return one_teacher(setting, self._single(self.available if which == "prevalent" else self.missing))

    @property
    def missing(self) -> tuple[str, ...]:
        return self.setting.config.missing(self.available)

    def _untrained(self) -> Teacher:
        """A teacher with random weights; what it is shown is scaled as for the others, or it might see nothing."""
        teacher = self.setting.new_teacher(self.setting.config.modalities)
        for modality, encoder in teacher.encoders.items():
            standardise(self.setting, modality, encoder)
        return teacher

    def _single(self, modalities: tuple[str, ...]) -> Teacher:
        """A teacher that sees only `modalities`."""
        name = f"teacher-{'+'.join(modalities)}"

        return self._kept(
            name,
            self.setting.new_teacher(modalities),
            lambda: train_teacher(self.setting, self.encoders, modalities, name=name),
        )

    def _crossed(self, modalities: tuple[str, ...]) -> list[Teacher]:
        """Teachers of `modalities` that were each trained without the people they teach."""
        return [
            self._kept(
                f"teacher-{'+'.join(modalities)}-cross{number}",
                self.setting.new_teacher(modalities),
                lambda number=number: train_cross_fitted(  # type: ignore[misc]
                    self.setting, self.folder, modalities, number
                ),
            )
            for number in range(self.setting.config.teacher.cross_fits)
        ]

    def _multi(self, choice: Choice) -> Source:
        """MT-PKDOT's teachers: aligned on all training people, and cross-fitted to choose among them."""
        setting, fold = self.setting, fold_of_person(self.setting)
        everybody = self._aligned(
            "aligned", self._copy_of_joint(), self._single(self.available), self._single(self.missing), None
        )
        of = {modalities: self._crossed(modalities) for modalities in self._three()}
        joint, prevalent, privileged = (of[modalities] for modalities in self._three())
        crossed = [
            self._aligned(f"aligned-cross{n}", joint[n], prevalent[n], privileged[n], n) for n in range(len(joint))
        ]
        return best_of_several(setting, everybody, crossed, fold, choice)

    def _three(self) -> tuple[tuple[str, ...], ...]:
        return self.setting.config.modalities, self.available, self.missing

    def _copy_of_joint(self) -> Teacher:
        """The joint teacher's fusion is trained on while it is aligned; other rows keep the one they have."""
        copy = self.setting.new_teacher(self.setting.config.modalities)
        copy.load_state_dict(self.joint.state_dict())
        return copy

    def _aligned(
        self, name: str, joint: Teacher, prevalent: Teacher, privileged: Teacher, number: int | None
    ) -> AlignedTeachers:
        setting = self.setting
        windows = setting.pairs
        if number is not None:
            windows = unseen(windows, fold_of_person(setting), number)
        name = f"{name}-{'+'.join(self.available)}"
        empty = AlignedTeachers(
            joint, prevalent, privileged,
            dim=setting.config.network.dim, task=setting.config.task, outputs=setting.outputs,
        ).to(setting.device)  # fmt: skip
        return self._kept(
            name, empty, lambda: align_teachers(setting, joint, prevalent, privileged, windows, name=name)
        )

    def _kept(self, name: str, empty: Net, make: Callable[[], tuple[Net, FitReport]]) -> Net:
        """The net of checkpoint `name`, loaded into `empty`; made and kept first where it is not there."""
        weights = self.folder.load(name)
        if weights is None:
            net, report = make()
            self.folder.finish(name, net.state_dict(), asdict(report))
        else:
            net = empty
            net.load_state_dict(weights)
        net.eval()
        return net

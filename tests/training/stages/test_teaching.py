"""The teachers that a row's terms can have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from models.nets.teacher import Teacher
from training.loop.loop import FitReport
from training.losses.ot import similarity
from training.run_folder import RunFolder
from training.stages.encoders import train_encoder
from training.stages.kept import student_stages
from training.stages.methods import METHODS, ROWS, Method
from training.stages.setting import Setting
from training.stages.student import StudentError
from training.stages.teacher import train_teacher
from training.stages.teaching import TeacherFolder

MakeSetting = Callable[[str], Setting]


def untrained_similarities(setting: Setting, joint: Teacher, folder: Path) -> torch.Tensor:
    """Between the windows of one batch, as the untrained teacher sees them."""
    teachers = TeacherFolder(setting, RunFolder(folder), {}, joint, ("face",))
    batch = next(iter(setting.some_batches()))
    lesson = teachers.source(METHODS["PKDOT from untrained"])(batch, setting.seen(joint, batch))
    return similarity(lesson.forward.z)


def test_the_untrained_teacher_sees_features_of_any_range_as_stage_0_does(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = toy_setting("classification")
    moved = {name: 1000.0 + values for name, values in setting.train.store.items()}
    setting, far = (
        replace(setting, train=replace(setting.train, store=store)) for store in (setting.train.store, moved)
    )
    joint, made = setting.new_teacher(setting.config.modalities), Setting.new_teacher
    teachers: list[Teacher] = []

    def watch(own: Setting, modalities: tuple[str, ...]) -> Teacher:
        teachers.append(made(own, modalities))
        return teachers[-1]

    monkeypatch.setattr(Setting, "new_teacher", watch)
    near, there = (untrained_similarities(one, joint, tmp_path) for one in (setting, far))

    assert float(near.std()) > 0.05
    torch.testing.assert_close(there, near, atol=1e-3, rtol=0.0)
    (untrained,) = teachers[1:]
    for modality in ("face", "text"):
        own, stage_0 = untrained.encoders[modality].state_dict(), train_encoder(far, modality, "encoder")[0]
        assert torch.equal(own["centre"], stage_0["centre"])
        assert torch.equal(own["spread"], stage_0["spread"])


def test_teachers_that_leave_out_the_same_people_share_encoders_which_a_kill_leaves_trained(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = toy_setting("classification")
    quick = {stage: {"epochs": 1, "batch": 8} for stage in ("encoders", "teacher")}
    config = type(setting.config).model_validate(setting.config.model_dump() | quick)
    setting = replace(setting, config=config)
    folder, joint = RunFolder(tmp_path), setting.new_teacher(setting.config.modalities)
    stage_0 = {m: joint.encoders[m].state_dict() for m in setting.config.modalities}
    trained: list[str] = []

    def watch(own: Setting, modality: str, name: str) -> tuple[dict[str, Any], FitReport]:
        trained.append(name)
        return train_encoder(own, modality, name)

    def killed(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.stages.encoders.train_encoder", watch)
    monkeypatch.setattr("training.stages.crossfit.train_teacher", killed)
    teachers = TeacherFolder(setting, folder, stage_0, joint, ("face",))
    with pytest.raises(KeyboardInterrupt):
        teachers.source(METHODS["MT-PKDOT"])
    monkeypatch.setattr("training.stages.crossfit.train_teacher", train_teacher)
    teachers.source(METHODS["MT-PKDOT"])
    teachers.source(ROWS["KD, cross-fitted"])

    assert trained == [f"encoder-{m}-cross{n}" for n in (0, 1) for m in ("face", "text")]
    alone, both = (folder.require(f"teacher-{what}-cross1") for what in ("face", "face+text"))
    assert {name for name in alone if name.startswith("encoders.face.")} <= both.keys()


@pytest.mark.parametrize(("task", "kinds"), [("classification", "1"), ("regression", "0")])
def test_a_row_whose_own_teacher_has_too_few_labels_to_learn_from_fails_alone(
    toy_setting: MakeSetting, tmp_path: Path, task: str, kinds: str
) -> None:
    setting = toy_setting(task)
    kept = setting.train.person == setting.train.person[0]  # all labels are one person's
    if kinds == "1":
        kept |= setting.train.targets == 2  # and of all others a single class
    setting = replace(setting, train=setting.train.with_labels_of(kept))
    joint = setting.new_teacher(setting.config.modalities)
    row = Method(terms=("KD",), teacher="cross-fitted", trained_tnet=False)

    with pytest.raises(
        StudentError, match=rf"^cross-fitted teacher \d learns .* have labels of {kinds} kinds, where it"
    ):
        student_stages(setting, RunFolder(tmp_path), {}, joint, ("face",), row, "row")

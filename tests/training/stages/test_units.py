"""A regression of the same data with labels in other units: the same student, whose answers are in those units."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.nets.student import Student
from models.nets.teacher import Forward
from training.data.window_set import Batch, WindowSet
from training.stages.encoders import train_encoder
from training.stages.material import Material
from training.stages.methods import METHODS
from training.stages.multi import ORDER, align_teachers, best_of_several
from training.stages.setting import Setting, run_over
from training.stages.sources import joint_teacher
from training.stages.student import train_student
from training.stages.teacher import train_teacher
from training.stages.tnet import train_tnets

MakeSetting = Callable[[str], Setting]
FACTOR, SHIFT = torch.tensor([20.0, 1e-7]), torch.tensor([50.0, 5e-7])


def with_targets(setting: Setting, change: Callable[[Tensor], Tensor]) -> Setting:
    """The setting with other targets of everybody."""

    def changed(windows: WindowSet) -> WindowSet:
        return replace(windows, targets=change(windows.targets))

    parts = {name: changed(getattr(setting, name)) for name in ("train", "select", "calibrate", "test")}
    return replace(setting, **parts)


def in_other_units(setting: Setting) -> Setting:
    """The first value as a rating of 0 to 100, the second in a unit that makes it tiny."""
    return with_targets(setting, lambda targets: targets * FACTOR + SHIFT)


def without_ties(setting: Setting) -> Setting:
    """No two pairs of targets equally far apart: rounding would decide which anchor comes first."""
    noise = torch.Generator().manual_seed(1)
    return with_targets(setting, lambda targets: targets + 0.1 * torch.randn(targets.shape, generator=noise))


def quick(setting: Setting) -> Setting:
    """Two epochs of each stage, and narrow nets."""
    stages = ("encoders", "teacher", "tnet", "student")
    short = {name: getattr(setting.config, name).model_copy(update={"epochs": 2}) for name in stages}
    network = setting.config.network.model_copy(update={"dim": 16, "steps": 2})
    return replace(setting, config=setting.config.model_copy(update={**short, "network": network}))


def answers(setting: Setting, method: str, name: str) -> Tensor:
    """What a student of the row `method`, kept under `name`, says of the test people, (N, 2)."""
    encoders = {m: train_encoder(setting, m, "encoder")[0] for m in setting.config.modalities}
    teacher, _ = train_teacher(setting, encoders, setting.config.modalities, name="teacher")
    hallucinating, _ = train_tnets(setting, ("face",), encoders, teacher)
    material = Material(encoders, hallucinating.tnets.state_dict(), teacher, joint_teacher)
    student = train_student(setting, ("face",), material, METHODS[method], name).student
    return run_over(student, setting.test, setting.device).output


@pytest.mark.parametrize("method", ["PKDOT", "KD + PKDOT", "PKDOT from labels"])
def test_the_unit_of_the_labels_changes_nothing_but_the_unit_of_the_answers(
    toy_setting: MakeSetting, method: str
) -> None:
    setting = without_ties(quick(toy_setting("regression")))

    said = answers(setting, method, "as they are")
    in_units = answers(in_other_units(setting), method, "in other units")

    assert float(said.std(dim=0).min()) > 0.02
    torch.testing.assert_close((in_units - SHIFT) / FACTOR, said, rtol=0, atol=1e-3)


def test_losses_are_taken_in_standard_deviations_of_the_training_targets(toy_setting: MakeSetting) -> None:
    setting = toy_setting("regression")
    targets = setting.test.targets
    output = targets.roll(1, dims=0) + torch.tensor([0.5, 0.0])
    scale = in_other_units(setting).scale

    loss = setting.task_loss(output, targets)
    in_units = in_other_units(setting).task_loss(output * FACTOR + SHIFT, targets * FACTOR + SHIFT)

    assert float(in_units) == pytest.approx(float(loss), abs=1e-5)
    assert scale is not None
    labels = in_other_units(setting).train.targets.double().numpy()
    np.testing.assert_allclose(scale.mean, labels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.std, labels.std(axis=0), rtol=1e-6)
    assert toy_setting("valence-arousal").scale is None
    assert toy_setting("pain").scale is None


class Three(torch.nn.Module):
    """Aligned teachers that say the same of every batch."""

    def __init__(self, output: list[Tensor]) -> None:
        super().__init__()
        z = torch.eye(3)[:, None].unbind()  # (1, 3) each
        self.said = {who: Forward({}, *both) for who, *both in zip(ORDER, z, output, strict=True)}

    def forward(self, _: object) -> dict[str, Forward]:
        return self.said


def test_the_teacher_of_a_sample_is_chosen_by_both_values_whatever_their_units(toy_setting: MakeSetting) -> None:
    setting = in_other_units(toy_setting("regression"))
    targets = setting.test.targets[:1]
    # the joint one is off by 1 and 0 standard units, the prevalent one by .1 and .9: less, though not in raw numbers
    errors = torch.tensor([[[0.0, 1.0]], [[0.9, 0.1]], [[2.0, 2.0]]]) * FACTOR
    teachers = Three([targets + error for error in errors])
    fold = torch.zeros(len(setting.train.people), dtype=torch.int64)
    batch = Batch({}, targets, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))

    source = best_of_several(setting, teachers, [teachers], fold, "sample")  # type: ignore[arg-type, list-item]

    assert source(batch, teachers.said["joint"]).forward.z.tolist() == [[0.0, 1.0, 0.0]]


def test_every_head_of_a_run_has_the_training_people_s_scale(toy_setting: MakeSetting) -> None:
    setting = in_other_units(toy_setting("regression"))
    labels = setting.train.targets
    student: Student = setting.new_student(("face",))

    for head in (setting.new_teacher(("face",)).head, student.head):
        torch.testing.assert_close(head.mean, labels.mean(dim=0))
        torch.testing.assert_close(head.std, labels.std(dim=0, correction=0))


def test_the_heads_of_aligned_teachers_have_the_scale_of_whom_they_learn_from(toy_setting: MakeSetting) -> None:
    setting = quick(in_other_units(toy_setting("regression")))
    teachers = [setting.new_teacher(m) for m in (setting.config.modalities, ("face",), ("text",))]
    half = setting.pairs.pick(torch.arange(0, len(setting.pairs), 2))

    net, _ = align_teachers(setting, *teachers, half, name="aligned")

    for name in ("prevalent", "privileged"):
        torch.testing.assert_close(net.heads[name].std, half.targets.std(dim=0, correction=0))
        torch.testing.assert_close(net.heads[name].mean, half.targets.mean(dim=0))

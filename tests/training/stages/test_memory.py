"""What teachers say of training windows is asked once, where no step varies the windows."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.nets.teacher import Forward, Teacher
from training.data.window_set import Batch, WindowSet
from training.stages.setting import Setting, run_over

MakeSetting = Callable[[str], Setting]


@pytest.fixture
def setting(toy_setting: MakeSetting) -> Setting:
    """Of features, which no step varies."""
    return toy_setting("classification")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of windows that teachers were asked about."""
    sizes: list[int] = []
    forward = Teacher.forward

    def counted(net: Teacher, tensors: dict[str, Tensor]) -> Forward:
        sizes.append(len(tensors["face"]))
        return forward(net, tensors)

    monkeypatch.setattr(Teacher, "forward", counted)
    return sizes


def some(windows: WindowSet, *index: int) -> Batch:
    return windows.batch(torch.tensor(index))


def test_a_teacher_is_asked_once_about_every_training_window(setting: Setting, asked: list[int]) -> None:
    teacher = setting.new_teacher(setting.config.modalities).eval()
    whole = run_over(teacher, setting.pairs, setting.device)
    asked.clear()

    for index in ([3, 1, 2], [5, 3, 0], [7]):
        said = setting.heard(teacher, some(setting.pairs, *index))
        torch.testing.assert_close(said.z, whole.z[index])
        torch.testing.assert_close(said.output, whole.output[index])
        torch.testing.assert_close(said.features["text"], whole.features["text"][index])

    assert sum(asked) == len(setting.pairs)
    setting.heard(setting.new_teacher(("face",)).eval(), some(setting.pairs, 0))  # another one says other things
    assert sum(asked) == 2 * len(setting.pairs)


def test_windows_of_others_are_asked_about_each_time(setting: Setting, asked: list[int]) -> None:
    teacher = setting.new_teacher(setting.config.modalities).eval()
    whole = run_over(teacher, setting.select, setting.device)
    setting.heard(teacher, some(setting.pairs, 0))
    asked.clear()

    said = [setting.heard(teacher, some(setting.select, 1, 0)).z for _ in range(2)]

    torch.testing.assert_close(said, [whole.z[[1, 0]]] * 2)
    assert asked == [2, 2]


def test_who_says_too_much_is_asked_each_time(
    setting: Setting, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.stages.setting.EVALUATION_BATCH", 4)
    teacher = setting.new_teacher(setting.config.modalities).eval()
    said = setting.seen(teacher, some(setting.pairs, 0))
    of_one = sum(values.nbytes for values in (*said.features.values(), said.z, said.output))
    monkeypatch.setattr("training.stages.memory.MOST_BYTES", of_one * len(setting.pairs) - 1)
    asked.clear()

    twice = [setting.heard(teacher, some(setting.pairs, 0)).z for _ in range(2)]

    torch.testing.assert_close(twice, [said.z] * 2)
    assert asked == [4, 1, 1]  # of the first four it is seen that all would be too much
    monkeypatch.setattr("training.stages.memory.MOST_BYTES", of_one * len(setting.pairs))
    other = replace(setting)
    asked.clear()
    for _ in range(2):
        other.heard(teacher, some(setting.pairs, 0))
    assert sum(asked) == len(setting.pairs)


def test_faces_that_are_varied_are_looked_at_each_time(toy_setting: MakeSetting, asked: list[int]) -> None:
    setting = toy_setting("valence-arousal")
    teacher = setting.new_teacher(setting.config.modalities).eval()
    batch = some(setting.pairs, 0, 1)
    darker = batch._replace(tensors={**batch.tensors, "face": batch.tensors["face"] // 2})

    first, second = (setting.heard(teacher, one).z for one in (batch, darker))

    assert asked == [2, 2]
    assert not torch.allclose(first, second)


def test_a_teacher_of_other_people_s_windows_is_met_anew(setting: Setting, asked: list[int]) -> None:
    teacher = setting.new_teacher(setting.config.modalities).eval()
    setting.heard(teacher, some(setting.pairs, 0))
    fewer = replace(setting, train=setting.train.pick(torch.arange(6)))
    asked.clear()

    said = fewer.heard(teacher, some(fewer.pairs, 5)).z

    torch.testing.assert_close(said, setting.seen(teacher, some(setting.pairs, 5)).z)
    assert asked == [6, 1]


def test_who_is_held_by_nobody_is_forgotten(setting: Setting) -> None:
    teacher = setting.new_teacher(setting.config.modalities).eval()
    setting.heard(teacher, some(setting.pairs, 0))
    assert len(setting.memory.kept) == 1

    del teacher

    assert len(setting.memory.kept) == 0

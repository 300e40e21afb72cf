"""What would be found only after hours, or never: parts from whose labels nothing can be learned or chosen."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from training.corpora.splits import SplitError
from training.data.window_set import WindowSet
from training.stages.checks import check_parts
from training.stages.encoders import train_encoder
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]


@pytest.mark.parametrize("task", ["valence-arousal", "regression"])
@pytest.mark.parametrize(("part", "rows"), [("select", [0]), ("select", [3, 8]), ("train", [2, 7, 12, 17])])
def test_values_that_are_all_the_same_are_refused(
    toy_setting: MakeSetting, task: str, part: str, rows: list[int]
) -> None:
    setting = toy_setting(task)
    windows = getattr(setting, part)
    alike = replace(setting, **{part: windows.pick(torch.tensor(rows))})
    differ = replace(setting, **{part: windows.pick(torch.tensor([*rows, rows[0] + 1]))})

    check_parts(differ)
    with pytest.raises(SplitError) as raised:
        check_parts(alike)

    assert str(raised.value) == (
        f"all {len(rows)} labelled windows of the {part} people have the same values, with which nothing can agree "
        "more or less; labels that differ are needed"
    )


def test_with_one_value_to_select_by_the_first_epoch_would_be_taken(toy_setting: MakeSetting) -> None:
    setting = toy_setting("regression")
    one = replace(setting, select=setting.select.pick(torch.arange(1)))

    _, report = train_encoder(one, "face", "encoder")

    assert (report.scores, report.best_epoch) == ([1.0] * 5, 0)  # which is why it is refused


def _few(setting: Setting, **student: object) -> Setting:
    """With three training windows."""
    config = setting.config.model_copy(update={"student": setting.config.student.model_copy(update=student)})
    return replace(setting, config=config, train=setting.train.pick(torch.arange(3)))


def test_too_few_windows_for_the_anchors_of_a_batch_are_enough_for_a_bank(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    refused = []

    for student in ({"k": 4}, {"k": 3}, {"k": 4, "bank": 8}):
        try:
            check_parts(_few(setting, **student))
        except SplitError as error:
            refused.append(str(error))

    assert refused == [
        "student.k is 4, but the train people have only 3 windows with face, eda to choose anchors from; set it to 3 "
        "or less"
    ]


def _without(windows: WindowSet, level: int) -> WindowSet:
    """Windows of `level` lose their label."""
    return windows.with_labels_of(windows.targets != level)


@pytest.mark.parametrize("task", ["pain", "classification"])
def test_a_class_that_is_tested_and_that_no_training_window_has_is_named(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    untaught = replace(setting, train=_without(_without(setting.train, 2), 4))
    neither = replace(untaught, test=_without(setting.test, 4))

    assert (setting.untaught, untaught.untaught, neither.untaught) == ((), ("PA2", "PA4"), ("PA2",))
    assert setting.protocol == [setting.protocol[0]]
    assert neither.protocol == [
        setting.protocol[0],
        "In seed 0, fold 0 no labelled training window is 'PA2', but test windows are: it cannot be learned there, "
        "and counts in the scores.",
    ]


def test_a_class_whose_training_windows_lack_a_modality_is_not_taught(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    train = setting.train
    seen = replace(train, observed={**train.observed, "eda": train.targets != 3})

    assert replace(setting, train=seen).untaught == ("PA3",)


def test_values_have_no_classes_to_be_taught(toy_setting: MakeSetting) -> None:
    assert toy_setting("valence-arousal").untaught == ()

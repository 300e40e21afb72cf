"""What would be found only after hours, or never: parts from whose labels nothing can be learned or chosen."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from training.corpora.splits import SplitError
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

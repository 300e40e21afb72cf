"""What nets say of test people, and the answer that ignores its input, which every table shows beside the teacher's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.outputs import corn_probabilities
from training.data.window_set import WindowSet
from training.scores.predictions import joined_folds, load_predictions
from training.stages.evaluate import predict_constant, predict_people
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]


def with_targets(windows: WindowSet, targets: torch.Tensor) -> WindowSet:
    """The windows with other targets."""
    return replace(windows, targets=targets)


@pytest.mark.parametrize("task", ["pain", "classification"])
def test_the_constant_answer_is_the_share_of_each_label_among_labelled_training_windows(
    toy_setting: MakeSetting, task: str
) -> None:
    setting = toy_setting(task)
    targets = torch.full((len(setting.train),), -1)
    targets[:4] = torch.tensor([2, 2, 0, 4])

    said = predict_constant(replace(setting, train=with_targets(setting.train, targets)), setting.test)

    assert said.said.tolist() == [[0.25, 0.0, 0.5, 0.0, 0.25]] * len(setting.test)
    assert said.scores()["accuracy"] == 0.2  # the toy people have each of five levels equally often
    assert said.scores()["unanswered"] == 0.0


@pytest.mark.parametrize("task", ["valence-arousal", "regression"])
def test_the_constant_answer_is_the_mean_of_labelled_training_windows(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    targets = torch.full((len(setting.train), 2), torch.nan)
    targets[:2] = torch.tensor([[0.25, -1.0], [0.75, 0.5]])

    said = predict_constant(replace(setting, train=with_targets(setting.train, targets)), setting.test)

    assert np.unique(said.said, axis=0).tolist() == [[0.5, -0.25]]
    assert said.scores()["ccc_mean"] == 0.0


@pytest.mark.parametrize("task", ["pain", "regression"])
def test_the_constant_answer_knows_no_label_but_those_of_training_people(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    others = {part: getattr(setting, part) for part in ("select", "calibrate", "test")}
    changed = {
        part: with_targets(windows, torch.zeros_like(windows.targets))
        for part, windows in others.items()
        if part != "test"
    }

    said = predict_constant(setting, setting.test)
    without = predict_constant(replace(setting, **changed), with_targets(setting.test, 0 * setting.test.targets))

    assert said.said.tolist() == without.said.tolist()


@pytest.mark.parametrize("task", ["pain", "valence-arousal"])
def test_the_constant_answer_is_of_the_same_items_as_any_nets_and_of_all_of_them(
    toy_setting: MakeSetting, task: str
) -> None:
    setting = toy_setting(task)
    net = setting.new_teacher(("face",))
    setting.test.observed["face"][::2] = False

    said, constant = predict_people(setting, net, ("face",), setting.test), predict_constant(setting, setting.test)

    for name in ("person", "item", "truth"):
        assert getattr(said, name).tolist() == getattr(constant, name).tolist()
    assert constant.answered.all()


def test_windows_that_overlap_are_scored_by_their_own_answers(toy_setting: MakeSetting) -> None:
    setting = toy_setting("regression")
    net = setting.new_teacher(("face",)).eval()
    starts_s = torch.arange(len(setting.test), dtype=torch.float64)[:, None]
    clip = setting.test.clip[:1].expand(len(setting.test))
    test = replace(setting.test, clip=clip, spans_s=torch.cat([starts_s, starts_s + 3], dim=1))  # three cover a middle
    test.observed["face"][5] = False
    with torch.no_grad():
        answers = net(test.batch(torch.arange(len(test))).tensors).output.numpy()

    said = predict_people(setting, net, ("face",), test).said

    known = np.delete(np.arange(len(test)), 5)
    np.testing.assert_allclose(said[known], answers[known], atol=1e-6)
    np.testing.assert_allclose(said[5], (answers[4] + answers[6]) / 2, atol=1e-6)  # those that cover its middle


def test_a_temperature_is_for_each_window_before_a_clip_is_averaged(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("pain")
    net = setting.new_teacher(("face",)).eval()
    test = replace(setting.test, clip=setting.test.clip[:1].expand(len(setting.test)))  # all windows are of one clip
    with torch.no_grad():
        logits = net(test.batch(torch.arange(len(test))).tensors).output.numpy()

    said = predict_people(setting, net, ("face",), test, temperature=0.1)

    assert said.calibrated is not None
    np.testing.assert_allclose(said.said, [corn_probabilities(logits).mean(axis=0)], atol=1e-6)
    np.testing.assert_allclose(said.calibrated, [corn_probabilities(logits, 0.1).mean(axis=0)], atol=1e-6)
    assert said.with_temperature().said is said.calibrated
    assert said.with_temperature().calibration_error() != said.calibration_error()
    said.save(tmp_path / "said.npz", [])
    np.testing.assert_array_equal(load_predictions(tmp_path / "said.npz").calibrated, said.calibrated)


def test_joined_folds_keep_each_its_own_temperature_unless_one_has_none(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    test, half = setting.test, torch.arange(len(setting.test)) < 7
    net = setting.new_teacher(("face",))
    first, second = (
        predict_people(setting, net, ("face",), test.pick(part), temperature=temperature)
        for part, temperature in ((half, 0.5), (~half, 2.0))
    )
    assert first.calibrated is not None
    assert second.calibrated is not None

    joined = joined_folds([second, first])

    np.testing.assert_array_equal(joined.item, [*first.item, *second.item])
    np.testing.assert_array_equal(joined.calibrated, [*first.calibrated, *second.calibrated])
    np.testing.assert_array_equal(joined.pick(joined.item == first.item[0]).calibrated, first.calibrated[:1])
    assert joined_folds([second, replace(first, calibrated=None)]).calibrated is None

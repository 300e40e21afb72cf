"""What a run logs about its structure term, where the answer is known."""

from collections.abc import Callable

import pytest
import torch

from training.stages.diagnostics import matrices, structure_diagnostics
from training.stages.setting import Setting


def test_a_student_that_is_its_teacher_sends_each_sample_to_itself(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    sharp = setting.config.student.model_copy(update={"blur": 0.001})
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    student.forward = teacher.forward  # type: ignore[method-assign]

    found = structure_diagnostics(setting, student, teacher, sharp, ot_weight=0.6)

    assert found["coupling_same_sample"] == pytest.approx(1.0, abs=0.05)
    assert found["coupling_same_level"] >= found["coupling_same_sample"] - 1e-9
    assert found["gradient_ratio"] == pytest.approx(0.0, abs=1e-3)


def test_a_cost_between_samples_keeps_each_at_its_place(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    fused = setting.config.student.model_copy(update={"pair_cost": 100.0})

    found = structure_diagnostics(setting, student, teacher, fused, ot_weight=0.6)

    assert found["coupling_same_sample"] == pytest.approx(1.0, abs=1e-6)


def test_a_cost_between_labels_lets_mass_move_within_each(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    fused = setting.config.student.model_copy(update={"pair_cost": 100.0, "apart": "label"})

    found = structure_diagnostics(setting, student, teacher, fused, ot_weight=0.6)

    assert found["coupling_same_level"] == pytest.approx(1.0, abs=1e-6)
    assert found["coupling_same_sample"] < 0.99


def test_a_collapsed_teacher_is_seen(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("valence-arousal")
    config = setting.config.student
    teacher, student = setting.new_teacher(("face", "voice")), setting.new_student(("face",))
    free = structure_diagnostics(setting, student, teacher, config, ot_weight=0.6)
    for parameter in teacher.fusion.parameters():
        torch.nn.init.zeros_(parameter)

    collapsed = structure_diagnostics(setting, student, teacher, config, ot_weight=0.6)

    assert collapsed["anchor_spread"] < 1e-6 < free["anchor_spread"]
    assert collapsed["coupling_same_sample"] == pytest.approx(1 / config.batch, rel=0.2)
    assert set(free) == {
        *("teacher_train", "teacher_selection", "coupling_same_sample"),
        *("anchor_spread", "similarity_spread", "gradient_ratio"),
    }


def test_the_matrices_of_a_plot_are_those_of_one_batch(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))

    s_teacher, s_student, plan, targets = matrices(setting, student, teacher, setting.config.student)

    assert s_teacher.shape == s_student.shape == plan.shape == (8, 8)
    assert torch.allclose(s_teacher.diagonal(), torch.ones(8), atol=1e-5)
    assert float(plan.sum()) == pytest.approx(1.0, abs=1e-5)
    assert targets.shape == (8,)

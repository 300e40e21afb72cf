"""What is frozen while the rest trains: no dropout, no statistics of batches, no gradient."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from training.data.window_set import Batch
from training.loop.loop import Bench, FitReport, fit, train_mode
from training.stage_config import StageConfig
from training.stages.material import Material
from training.stages.methods import METHODS
from training.stages.multi import align_teachers
from training.stages.setting import Setting
from training.stages.sources import joint_teacher
from training.stages.student import train_student

MakeSetting = Callable[[str], Setting]


def in_training(model: nn.Module) -> set[str]:
    """Names of the modules in training mode."""
    return {name for name, module in model.named_modules() if module.training}


def test_only_what_has_a_weight_to_train_and_what_has_none_at_all_is_in_training_mode() -> None:
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2)).requires_grad_(False)
    model = nn.ModuleDict({"frozen": frozen, "free": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))}).eval()

    train_mode(model)

    assert in_training(model) == {"", "free", "free.0", "free.1"}


def test_a_frozen_part_says_the_same_in_every_step_and_keeps_its_statistics(toy_setting: MakeSetting) -> None:
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).requires_grad_(False)
    net = nn.Sequential(frozen, nn.Linear(8, 1), nn.Dropout(0.5))
    data, before = toy_setting("pain").train, {name: value.clone() for name, value in frozen.state_dict().items()}
    same: list[tuple[bool, bool]] = []

    def step(batch: Batch, *_: object) -> torch.Tensor:
        first, second = (frozen(batch.tensors["eda"]) for _ in range(2))
        same.append((torch.equal(first, second), torch.equal(net(batch.tensors["eda"]), net(batch.tensors["eda"]))))
        return net(batch.tensors["eda"]).square().mean()  # type: ignore[no-any-return]

    fit(net, net[1].parameters(), step, lambda: 0.0, data, StageConfig(epochs=2, batch=8), Bench(seed=0, label="toy"))

    assert len(same) == 6
    assert set(same) == {(True, False)}
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What was in training mode at each step of stage 3 and of the teachers' alignment."""
    seen: list[set[str]] = []

    def watched(
        model: nn.Module, parameters: Any, step: Callable[..., torch.Tensor], *rest: Any, **more: Any
    ) -> FitReport:
        def look(*arguments: Any) -> torch.Tensor:
            seen.append(in_training(model))
            return step(*arguments)

        return fit(model, parameters, look, *rest, **more)

    monkeypatch.setattr("training.stages.student.fit", watched)
    monkeypatch.setattr("training.stages.multi.fit", watched)
    return seen


def with_student(setting: Setting, **values: object) -> Setting:
    """The setting with other student settings, and one epoch."""
    student = setting.config.student.model_copy(update={"epochs": 1, **values})
    return replace(setting, config=setting.config.model_copy(update={"student": student}))


def assert_modes(modes: list[set[str]], *, frozen: set[str], free: set[str]) -> None:
    """All that is below `frozen` was in evaluation mode in every step, and all of `free` in training mode."""
    assert modes
    for names in modes:
        assert {part for part in frozen for name in names if f"{name}.".startswith(f"{part}.")} == set()
        assert free <= names


@pytest.mark.parametrize(
    ("row", "trainable", "frozen", "free"),
    [
        ("oracle", "all", {"student.real"}, {"student.student.encoders.face", "student.student.fusion"}),
        ("hallucination only", "fusion", {"student.encoders", "student.tnets"}, {"student.fusion", "student.head"}),
    ],
)
def test_frozen_parts_of_a_student_are_in_evaluation_mode(
    toy_setting: MakeSetting, modes: list[set[str]], row: str, trainable: str, frozen: set[str], free: set[str]
) -> None:
    setting = with_student(toy_setting("classification"), trainable=trainable)
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities).eval()
    material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, joint_teacher)

    train_student(setting, ("face",), material, METHODS[row], "row")

    assert_modes(modes, frozen=frozen, free=free)


def test_frozen_parts_of_aligned_teachers_are_in_evaluation_mode(
    toy_setting: MakeSetting, modes: list[set[str]]
) -> None:
    setting = toy_setting("classification")
    joint, prevalent, privileged = (setting.new_teacher(which) for which in (("face", "text"), ("face",), ("text",)))

    align_teachers(setting, joint, prevalent, privileged, setting.pairs, name="aligned")

    assert_modes(modes, frozen={"own", "joint.encoders"}, free={"joint.fusion", "adapters.prevalent", "heads"})

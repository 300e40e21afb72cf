"""Students of several gradient ratios: none that is done is trained again, and a kill changes no bit of the result."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.errors import TrainingError
from training.loop.loop import FitReport, fit
from training.run_folder import RunFolder
from training.stages.diagnostics import Measured, structure_diagnostics
from training.stages.kept import shared_stages, student_stages
from training.stages.material import Material
from training.stages.methods import ROWS, Method, changed
from training.stages.setting import Setting
from training.stages.sources import joint_teacher
from training.stages.student import StudentError, Trained, forget_ratios, train_student
from training.stages.terms import StructuralOT, TermSpec

MakeSetting = Callable[[str], Setting]
RATIOS = (0.1, 0.3, 3.0)
METHOD = Method(trained_tnet=False, terms=("KD", "OT"), change=changed(projection=16))


class KilledError(BaseException):
    """Stands for the end of the process."""


def with_ratios(setting: Setting, *ratios: float) -> Setting:
    student = setting.config.student.model_copy(update={"gradient_ratios": ratios, "epochs": 2})
    return replace(setting, config=setting.config.model_copy(update={"student": student}))


def material_of(setting: Setting) -> Material:
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities).eval()
    return Material({"face": new.encoders["face"].state_dict()}, {}, teacher, joint_teacher)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException | None], list[Path | None]]:
    """`fits(n, error)`: the state files of the trainings from now on, of which the n-th raises `error` in its midst."""

    def watch(last: int, error: BaseException | None) -> list[Path | None]:
        begun: list[Path | None] = []

        def watched(
            model: Any, parameters: Any, step: Any, score: Any, data: Any, config: Any, bench: Any, **more: Any
        ) -> FitReport:
            begun.append(bench.state_file)

            def broken(batch: Any, noise: Any, done: float) -> torch.Tensor:
                if len(begun) == last and done > 0.5 and error is not None:
                    raise error
                loss: torch.Tensor = step(batch, noise, done)
                return loss

            return fit(model, parameters, broken, score, data, config, bench, **more)

        monkeypatch.setattr("training.stages.student.fit", watched)
        return begun

    return watch


def names(files: list[Path | None]) -> list[str]:
    return [file.name for file in files if file is not None]


def assert_same(one: Trained, other: Trained) -> None:
    assert (one.report, one.weights, one.ratio) == (other.report, other.weights, other.ratio)
    for mine, theirs in (
        (one.student.state_dict(), other.student.state_dict()),
        (one.terms.state_dict(), other.terms.state_dict()),
    ):
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


@pytest.mark.parametrize("ratios", [RATIOS, RATIOS[::-1]])
def test_a_kill_in_the_third_ratio_costs_the_third_alone_and_changes_no_bit(
    toy_setting: MakeSetting,
    fits: Callable[[int, BaseException | None], list[Path | None]],
    monkeypatch: pytest.MonkeyPatch,
    ratios: tuple[float, ...],
) -> None:
    always_saves = SimpleNamespace(monotonic=partial(next, count(0, 100)))
    monkeypatch.setattr("training.loop.loop.time", always_saves)
    setting = with_ratios(toy_setting("classification"), *ratios)
    material = material_of(setting)
    whole = train_student(setting, ("face",), material, METHOD, "whole")

    fits(3, KilledError())
    with pytest.raises(KilledError):
        train_student(setting, ("face",), material, METHOD, "killed")
    begun = fits(0, None)
    gone_on = train_student(setting, ("face",), material, METHOD, "killed")

    assert names(begun) == [f"killed-{ratios[2]:g}.state"]
    assert_same(gone_on, whole)


def test_a_kill_before_the_result_is_kept_elsewhere_costs_no_training(
    toy_setting: MakeSetting,
    fits: Callable[[int, BaseException | None], list[Path | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = with_ratios(toy_setting("classification"), *RATIOS[:2])
    folder = RunFolder(setting.scratch / "run")
    setting = replace(setting, scratch=folder.scratch)
    folder.scratch.mkdir(parents=True)
    encoders, teacher = shared_stages(setting, folder)

    def kill(*_: object, **__: object) -> dict[str, float]:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("training.stages.kept.structure_diagnostics", kill)
        with pytest.raises(KilledError):
            student_stages(setting, folder, encoders, teacher, ("face",), ROWS["PKDOT balanced"], "row")
    begun = fits(0, None)
    student_stages(setting, folder, encoders, teacher, ("face",), ROWS["PKDOT balanced"], "row")

    assert begun == []
    assert list(folder.scratch.iterdir()) == []
    student = setting.new_student(("face",))
    student.load_state_dict(folder.require("row"))
    found, method = folder.metrics()["row"], ROWS["PKDOT balanced"]
    material = Material(encoders, {}, teacher, joint_teacher)
    spec = TermSpec(setting.config.student, setting.config.task, setting.config.network.dim)
    measured = Measured(student, StructuralOT(spec), material)
    assert found["structure"] == structure_diagnostics(setting, measured, method, ot_weight=found["weights"]["OT"])


def test_the_oracle_is_restored_with_what_it_sees(
    toy_setting: MakeSetting, fits: Callable[[int, BaseException | None], list[Path | None]]
) -> None:
    setting = with_ratios(toy_setting("pain"), 0.3)
    material = material_of(setting)
    whole = train_student(setting, ("face",), material, ROWS["oracle"], "row")
    begun = fits(0, None)

    assert_same(train_student(setting, ("face",), material, ROWS["oracle"], "row"), whole)
    assert begun == []


def test_ratios_that_are_done_outlive_the_one_that_fails_until_they_are_forgotten(
    toy_setting: MakeSetting, fits: Callable[[int, BaseException | None], list[Path | None]]
) -> None:
    setting = with_ratios(toy_setting("classification"), *RATIOS)
    material = material_of(setting)

    for failing, expected in ((2, ["row-0.1.state", "row-0.3.state"]), (1, ["row-0.3.state"])):
        begun = fits(failing, TrainingError("the loss became nan"))
        with pytest.raises(StudentError, match="the loss became nan"):
            train_student(setting, ("face",), material, METHOD, "row")
        assert names(begun) == expected
    forget_ratios(setting.scratch, "row")

    assert list(setting.scratch.iterdir()) == []


def test_an_oracle_that_fails_leaves_the_teacher_as_it_was(
    toy_setting: MakeSetting, fits: Callable[[int, BaseException | None], list[Path | None]]
) -> None:
    setting = toy_setting("pain")
    material = material_of(setting)

    fits(1, TrainingError("the loss became nan"))
    with pytest.raises(StudentError, match="the loss became nan"):
        train_student(setting, ("face",), material, ROWS["oracle"], "row")

    assert [name for name, module in material.teacher.named_modules() if module.training] == []
    assert [name for name, weight in material.teacher.named_parameters() if not weight.requires_grad] == []

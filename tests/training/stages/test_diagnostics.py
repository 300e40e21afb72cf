"""What a run logs about its structure term, where the answer is known."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.outputs import label_probabilities
from training.data.window_set import WindowSet
from training.losses.ot import cosines, similarity
from training.run_folder import RunFolder
from training.stages.bank import BankOT
from training.stages.crossfit import fold_of_person
from training.stages.diagnostics import Measured, matrices, structure_diagnostics
from training.stages.kept import shared_stages, student_stages
from training.stages.material import Material
from training.stages.methods import ROWS
from training.stages.setting import Setting, run_over
from training.stages.sources import Lesson, Source, cross_fitted, joint_teacher, one_teacher, shuffled
from training.stages.student import start_terms
from training.stages.terms import StructuralOT, TermSpec
from training.stages.weights import TASK, gradient_norms

MakeSetting = Callable[[str], Setting]
PAPERS = ROWS["PKDOT"]


def measured(
    setting: Setting, student: Student, teacher: Teacher, source: Source = joint_teacher, **changes: object
) -> Measured:
    """A row with the recipe's term, changed so, and this teacher."""
    config = setting.config.student.model_copy(update=changes)
    term = StructuralOT(TermSpec(config, setting.config.task, setting.config.network.dim))
    return Measured(student, term, Material({}, {}, teacher, source))


def accuracy(setting: Setting, teacher: Teacher, windows: WindowSet) -> float:
    said = label_probabilities("classification", run_over(teacher, windows, setting.device).output.numpy())
    return float((said.argmax(axis=1) == windows.targets.numpy()).mean())


def knowing_teacher(setting: Setting) -> Teacher:
    """A teacher that knows the toy people's classes, z and output (B, 5) being one-hot."""
    teacher = setting.new_teacher(setting.config.modalities)

    def forward(tensors: Mapping[str, torch.Tensor]) -> Forward:
        level = (tensors["face"].mean(1) / 3 * 4).round().long().clamp(0, 4)
        known = torch.nn.functional.one_hot(level, 5).float()
        return Forward({}, known, known)

    teacher.forward = forward  # type: ignore[method-assign]
    return teacher


def test_a_student_that_is_its_teacher_sends_each_sample_to_itself(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    student.forward = teacher.forward  # type: ignore[method-assign]

    found = structure_diagnostics(setting, measured(setting, student, teacher, blur=0.001), PAPERS, ot_weight=0.6)

    assert found["coupling_same_sample"] == pytest.approx(1.0, abs=0.05)
    assert found["coupling_same_level"] is not None
    assert found["coupling_same_sample"] is not None
    assert found["coupling_same_level"] >= found["coupling_same_sample"] - 1e-9
    assert found["gradient_ratio"] == pytest.approx(0.0, abs=1e-3)


def test_a_cost_between_samples_keeps_each_at_its_place(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    fused = measured(setting, student, teacher, pair_cost=100.0)

    found = structure_diagnostics(setting, fused, PAPERS, ot_weight=0.6)

    assert found["coupling_same_sample"] == pytest.approx(1.0, abs=1e-6)


def test_a_cost_between_labels_lets_mass_move_within_each(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    fused = measured(setting, student, teacher, pair_cost=100.0, apart="label")

    found = structure_diagnostics(setting, fused, PAPERS, ot_weight=0.6)

    assert found["coupling_same_level"] == pytest.approx(1.0, abs=1e-6)
    assert found["coupling_same_sample"] is not None
    assert found["coupling_same_sample"] < 0.99


def test_a_collapsed_teacher_is_seen(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("valence-arousal")
    config = setting.config.student
    teacher, student = setting.new_teacher(("face", "voice")), setting.new_student(("face",))
    row = measured(setting, student, teacher)
    free = structure_diagnostics(setting, row, PAPERS, ot_weight=0.6)
    for parameter in teacher.fusion.parameters():
        torch.nn.init.zeros_(parameter)

    collapsed = structure_diagnostics(setting, row, PAPERS, ot_weight=0.6)

    assert collapsed["anchor_spread"] is not None
    assert free["anchor_spread"] is not None
    assert collapsed["anchor_spread"] < 1e-6 < free["anchor_spread"]
    assert collapsed["coupling_same_sample"] == pytest.approx(1 / config.batch, rel=0.2)
    assert set(free) == {
        *("teacher_train", "teacher_selection", "coupling_same_sample"),
        *("anchor_spread", "similarity_spread", "gradient_ratio"),
    }


def test_the_matrices_of_a_plot_are_those_of_one_batch(toy_setting: Callable[[str], Setting]) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))

    s_teacher, s_student, plan, targets = matrices(setting, measured(setting, student, teacher))

    assert s_teacher.shape == s_student.shape == plan.shape == (8, 8)
    assert torch.allclose(s_teacher.diagonal(), torch.ones(8), atol=1e-5)
    assert float(plan.sum()) == pytest.approx(1.0, abs=1e-5)
    assert targets.shape == (8,)


def test_the_numbers_are_of_the_teacher_that_the_row_has(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    joint, student = setting.new_teacher(setting.config.modalities), setting.new_student(("face",))
    row = measured(setting, student, joint, one_teacher(setting, knowing_teacher(setting)), k=8)

    found = structure_diagnostics(setting, row, PAPERS, ot_weight=0.6)

    targets = [batch.targets for batch in setting.some_batches()]
    spread = np.mean([float((own[:, None] == own[None, :]).float().std()) for own in targets])
    assert found["similarity_spread"] == found["anchor_spread"] == pytest.approx(spread)
    assert found["teacher_train"] == found["teacher_selection"] == 1.0
    assert accuracy(setting, joint, setting.pairs) < 0.5


def test_a_shuffled_teacher_is_scored_by_what_it_tells_and_says_the_same_again(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    row = measured(setting, setting.new_student(("face",)), knowing_teacher(setting), shuffled)

    found, again = (structure_diagnostics(setting, row, PAPERS, ot_weight=0.6) for _ in range(2))

    assert found["teacher_train"] == pytest.approx(0.2, abs=0.15)  # by chance
    assert found == again


def test_what_several_teachers_said_is_measured_within_each(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    fold = fold_of_person(setting)
    first, student = setting.new_teacher(setting.config.modalities).eval(), setting.new_student(("face",)).eval()
    second = setting.new_teacher(("face",)).eval()
    row = measured(setting, student, first, cross_fitted(setting, [first, second], fold), pair_cost=100.0)

    found = structure_diagnostics(setting, row, ROWS["PKDOT, cross-fitted"], ot_weight=0.6)
    s_teacher, s_student, plan, _ = matrices(setting, row)

    batch = next(iter(setting.some_batches()))
    own = fold[batch.person]
    together = own[:, None] == own[None, :]
    assert 0 < int((own == 1).sum()) < len(own)
    for number, teacher in enumerate((first, second)):
        mine = torch.outer(own == number, own == number)
        expected = similarity(setting.seen(teacher, batch).z[own == number])
        torch.testing.assert_close(s_teacher[mine], expected.flatten())
        assert float(plan[mine].sum()) == pytest.approx(float((own == number).float().mean()))
    assert torch.equal(s_teacher.isnan(), ~together)
    assert torch.equal(s_student.isnan(), ~together)
    assert float(plan[~together].sum()) == 0.0
    assert found["coupling_same_sample"] == pytest.approx(1.0, abs=1e-6)
    of = [setting.pairs.pick(fold[setting.pairs.person] == number) for number in (0, 1)]
    right = sum(accuracy(setting, net, part) * len(part) for net, part in zip((first, second), of, strict=True))
    assert found["teacher_train"] == pytest.approx(right / len(setting.pairs))
    assert found["teacher_selection"] is None


def test_without_two_windows_of_one_teacher_a_batch_has_no_structure(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    teacher, student = setting.new_teacher(setting.config.modalities), setting.new_student(("face",))
    row = measured(setting, student, teacher, lambda _, joint: Lesson(joint, torch.arange(len(joint.z))))

    found = structure_diagnostics(setting, row, ROWS["PKDOT, cross-fitted"], ot_weight=0.6)

    assert found["coupling_same_sample"] is found["anchor_spread"] is found["similarity_spread"] is None
    assert found["gradient_ratio"] == 0.0


@pytest.mark.parametrize("name", ["PKDOT, bank", "PKDOT, projected", "PKDOT, centred by person"])
def test_the_gradient_is_that_of_the_term_that_was_trained(toy_setting: MakeSetting, name: str) -> None:
    setting = toy_setting("classification")
    teacher, student = setting.new_teacher(setting.config.modalities).eval(), setting.new_student(("face",)).eval()
    material = Material({}, {}, teacher, joint_teacher)
    config = ROWS[name].change(setting.config.student)
    terms = start_terms(setting, student, teacher, ROWS[name], config)
    if name == "PKDOT, projected":
        torch.nn.init.eye_(terms["OT"].projection.weight)  # type: ignore[union-attr, arg-type]

    found = structure_diagnostics(setting, Measured(student, terms["OT"], material), ROWS[name], ot_weight=0.6)

    batches = setting.some_batches(config.windows_each)
    norms = [gradient_norms(setting, student, terms, material, [batch]) for batch in batches]
    assert found["gradient_ratio"] == pytest.approx(float(np.mean([0.6 * one["OT"] / one[TASK] for one in norms])))


def test_a_banks_rows_are_similarities_to_its_prototypes(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    teacher, student = setting.new_teacher(setting.config.modalities).eval(), setting.new_student(("face",)).eval()
    bank = BankOT(setting, setting.config.student.model_copy(update={"bank": 7}), student, teacher)
    row = Measured(student, bank, Material({}, {}, teacher, joint_teacher))

    found = structure_diagnostics(setting, row, ROWS["PKDOT, bank"], ot_weight=0.6)

    rows = [cosines(setting.seen(teacher, batch).z, bank.teacher_bank) for batch in setting.some_batches()]
    assert rows[0].shape == (8, 7)
    assert found["anchor_spread"] == pytest.approx(float(np.mean([float(own.std()) for own in rows])))


def test_each_row_of_a_folder_logs_and_shows_its_own_teacher(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("classification")
    stages = {
        stage: getattr(setting.config, stage).model_copy(update={"epochs": 1})
        for stage in ("encoders", "teacher", "tnet", "student")
    }
    setting = replace(setting, config=setting.config.model_copy(update=stages))
    folder = RunFolder(tmp_path / "run")
    folder.begin(setting.config, setting.contents, resume=False)
    encoders, joint = shared_stages(setting, folder)
    rows = ("PKDOT", "PKDOT from prevalent", "PKDOT, cross-fitted")

    for name in rows:
        student_stages(setting, folder, encoders, joint, ("face",), ROWS[name], name)

    prevalent = setting.new_teacher(("face",))
    prevalent.load_state_dict(folder.require("teacher-face"))
    batch = next(iter(setting.some_batches()))
    for name, teacher in (("PKDOT", joint), ("PKDOT from prevalent", prevalent.eval())):
        logged = folder.metrics()[name]["structure"]
        assert logged["teacher_train"] == pytest.approx(accuracy(setting, teacher, setting.pairs))
        assert logged["teacher_selection"] == pytest.approx(accuracy(setting, teacher, setting.selection))
        with np.load(folder.path / f"matrices-{name}.npz") as arrays:
            shown = arrays[arrays.files[0]]
        assert np.abs(shown - similarity(setting.seen(teacher, batch).z).numpy()).max() < 1e-5
    assert folder.metrics()["PKDOT, cross-fitted"]["structure"]["teacher_selection"] is None

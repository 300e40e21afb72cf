"""The stages on toy people: who learns, who must not, and what leaves the house."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import bundle
from models.outputs import corn_probabilities
from training.corpora.splits import SplitError
from training.data import Batch
from training.losses.task import task_loss
from training.replacing import FolderInUseError
from training.stages.encoders import train_encoder
from training.stages.evaluate import calibrate, evaluate
from training.stages.export import ExportError, export_bundle
from training.stages.methods import BASIC, METHODS
from training.stages.prepare import check_parts
from training.stages.setting import Setting, run_over
from training.stages.student import Teachers, student_loss, train_student
from training.stages.teacher import train_teacher
from training.stages.tnet import hallucination_r2, train_tnets

MakeSetting = Callable[[str], Setting]


@pytest.mark.parametrize("task", ["pain", "valence-arousal"])
def test_the_whole_line_learns_what_the_toy_people_show(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    encoders = {m: train_encoder(setting, m)[0] for m in setting.config.modalities}
    teacher, _ = train_teacher(setting, encoders, setting.config.modalities)
    hallucinating, report = train_tnets(setting, ("face",), encoders, teacher)
    teachers = Teachers(teacher, teacher)
    student, _, _ = train_student(
        setting, ("face",), encoders, hallucinating.tnets.state_dict(), teachers, METHODS["PKDOT"]
    )

    scores = evaluate(setting, student, ("face",))

    assert min(report.scores) < report.scores[0]
    missing = setting.config.missing(("face",))[0]
    assert hallucination_r2(setting, student, teacher, setting.test)[missing] > 0.3
    if task == "pain":
        assert scores["accuracy"] > 0.3  # chance is 0.2
        assert scores["clips"] == len(setting.test)
    else:
        assert scores["ccc_mean"] > 0.5
        assert scores["frames"] == 50 * len(setting.test)


def test_no_gradient_reaches_the_teacher_and_one_reaches_every_part_of_the_student(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    batch = setting.train.batch(torch.arange(16))

    method = METHODS["KD + PKDOT"]
    weights = {"KD": 0.5, "OT": 0.5}
    student_loss(student, Teachers(teacher, teacher), batch, setting.config.student, method, weights).backward()

    assert all(p.grad is None for p in teacher.parameters())
    assert [name for name, p in student.named_parameters() if p.grad is None] == []


def test_the_lower_bound_is_the_task_loss_alone(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",)).eval()
    batch = setting.train.batch(torch.arange(16))

    method = METHODS["student without privileged"]
    loss = student_loss(student, Teachers(teacher, teacher), batch, setting.config.student, method, {})

    assert torch.equal(loss, task_loss(student(batch.tensors).output, batch.targets))


def test_every_method_starts_from_the_same_weights(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    first = setting.new_student(("face",)).state_dict()
    torch.rand(7)

    second = setting.new_student(("face",)).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_student_trained_with_frozen_encoders_keeps_them(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    frozen = setting.config.model_copy(
        update={"student": setting.config.student.model_copy(update={"trainable": "fusion"})}
    )
    setting = Setting(**{**vars(setting), "config": frozen})
    encoders = {m: train_encoder(setting, m)[0] for m in setting.config.modalities}
    teacher = setting.new_teacher(("face", "eda"))
    tnets = setting.new_student(("face",)).tnets.state_dict()

    student, _, _ = train_student(setting, ("face",), encoders, tnets, Teachers(teacher, teacher), METHODS["PKDOT"])

    kept = student.encoders["face"].state_dict()
    assert all(torch.equal(kept[name], value) for name, value in encoders["face"].items())


def test_an_answer_does_not_depend_on_who_shares_the_batch(toy_setting: MakeSetting) -> None:
    setting = toy_setting("valence-arousal")
    net = setting.new_teacher(("face", "voice")).eval()
    together = run_over(net, setting.train, setting.device).output
    order = torch.randperm(len(setting.train))

    shuffled = run_over(net, setting.train.pick(order), setting.device).output
    alone = torch.cat([net(Batch(*setting.train.batch(torch.tensor([i]))).tensors).output for i in range(5)])

    assert (shuffled - together[order]).abs().max() <= 1e-5
    assert (alone - together[:5]).abs().max() <= 1e-5


def test_clips_without_an_answer_count_as_wrong(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    setting.test.observed["face"][:] = False

    scores = evaluate(setting, setting.new_teacher(("face",)), ("face",))

    assert (scores["accuracy"], scores["unanswered"]) == (0.0, len(setting.test))


def test_conformal_sets_hold_the_promised_share_of_calibration_windows(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    net = setting.new_teacher(("face",))

    calibration = calibrate(setting, net, ("face",))

    probabilities = corn_probabilities(run_over(net, setting.calibrate, setting.device).output.numpy())
    true = probabilities[np.arange(len(probabilities)), setting.calibrate.targets.numpy()]
    quantile = calibration.quantiles["pain"]
    assert quantile is not None
    assert (1 - true <= quantile + 1e-9).mean() >= 0.9
    assert calibration.people == len(setting.split.calibrate)


def test_too_few_calibration_windows_give_no_quantile_and_the_reason(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    few = Setting(**{**vars(setting), "calibrate": setting.calibrate.pick(torch.arange(8))})

    calibration = calibrate(few, setting.new_teacher(("face",)), ("face",))

    assert calibration.quantiles == {"pain": None}
    assert calibration.reason is not None
    assert "8 calibration windows" in calibration.reason


def test_a_bundle_holds_a_graph_for_each_set_and_a_second_export_replaces_the_first(
    toy_setting: MakeSetting, tmp_path: Path
) -> None:
    setting = toy_setting("valence-arousal")
    students = {available: setting.new_student(available).eval() for available in setting.config.students}
    calibrations = {available: calibrate(setting, students[available], available) for available in students}
    nets = tmp_path / "nets"
    nets.mkdir()
    to = tmp_path / "bundle"
    for name in ("detector_short.onnx", "detector_full.onnx", "landmarks.onnx"):
        (nets / name).write_bytes(_any_onnx())

    made = export_bundle(setting, students, calibrations, {"x": 1.0}, nets, to)
    again = export_bundle(setting, students, calibrations, {"x": 2.0}, nets, to)

    assert {frozenset(g.available) for g in made.manifest.graphs} == {
        frozenset({"face"}), frozenset({"voice"}), frozenset({"face", "voice"})
    }  # fmt: skip
    assert made.manifest.graphs[0].hallucinated == ("voice",)
    assert bundle.load(to).version == again.version != made.version
    assert "synthetic" in (to / "card.md").read_text()
    assert not to.with_name("bundle.part").exists()


def test_a_bundle_holds_no_window_of_a_participant(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("valence-arousal")
    student = setting.new_student(("voice",)).eval()

    made = export_bundle(
        setting,
        {("voice",): student},
        {("voice",): calibrate(setting, student, ("voice",))},
        {},
        tmp_path,
        tmp_path / "b",
    )

    golden, output = made.golden(made.manifest.graphs[0])
    everyone = torch.cat([part.tensors["voice"] for part in (setting.train, setting.select, setting.calibrate)])
    assert not any((everyone == torch.from_numpy(window)).all(dim=(1, 2)).any() for window in golden["voice"])
    assert len(np.unique(output[:, 0])) == len(output)  # another input, another output
    assert made.manifest.inputs.face is None


def test_a_bundle_is_never_written_over_something_else(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("pain")
    (tmp_path / "bundles" / "other").mkdir(parents=True)

    with pytest.raises(FolderInUseError, match="holds something else than a bundle"):
        export_bundle(setting, {}, {}, {}, tmp_path, tmp_path / "bundles")

    assert (tmp_path / "bundles" / "other").is_dir()


@pytest.mark.parametrize(
    ("part", "kept", "complaint"), [("train", 3, "at least 4 are needed"), ("select", 0, "have 0")]
)
def test_parts_that_cannot_do_their_work_are_refused_before_training(
    toy_setting: MakeSetting, part: str, kept: int, complaint: str
) -> None:
    setting = toy_setting("pain")
    short = Setting(**{**vars(setting), part: getattr(setting, part).pick(torch.arange(kept))})

    with pytest.raises(SplitError, match=complaint):
        check_parts(short)


@pytest.mark.parametrize("method", BASIC)
def test_with_frozen_encoders_only_a_trained_tnet_is_frozen_too(toy_setting: MakeSetting, method: str) -> None:
    setting = toy_setting("pain")
    frozen = setting.config.model_copy(
        update={"student": setting.config.student.model_copy(update={"trainable": "fusion", "epochs": 1})}
    )
    setting = Setting(**{**vars(setting), "config": frozen})
    new = setting.new_student(("face",))

    teacher = setting.new_teacher(("face", "eda"))

    student, _, _ = train_student(
        setting,
        ("face",),
        {"face": new.encoders["face"].state_dict()},
        new.tnets.state_dict(),
        Teachers(teacher, teacher),
        METHODS[method],
    )

    same = all(torch.equal(student.tnets.state_dict()[name], value) for name, value in new.tnets.state_dict().items())
    assert same is METHODS[method].trained_tnet


def test_an_export_that_computes_something_else_is_refused(
    toy_setting: MakeSetting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = toy_setting("pain")
    student = setting.new_student(("face",)).eval()
    calibrations = {("face",): calibrate(setting, student, ("face",))}
    monkeypatch.setattr("training.stages.export.PARITY", -1.0)

    with pytest.raises(ExportError, match="differs from torch"):
        export_bundle(setting, {("face",): student}, calibrations, {}, tmp_path, tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


def _any_onnx() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "any", [value], [out])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())

"""The stages on toy people: who learns, and who must not."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.nets.student import Student
from models.outputs import corn_probabilities
from training.corpora.splits import SplitError
from training.data.window_set import Batch
from training.loop.loop import FitReport
from training.losses.hallucination import expected_error_loss
from training.stages.calibration import calibrate
from training.stages.checks import check_parts
from training.stages.encoders import train_encoder
from training.stages.evaluate import group_scores, predict_people
from training.stages.material import Material
from training.stages.methods import BASIC, METHODS, Method
from training.stages.setting import Setting, run_over
from training.stages.sources import Lesson, joint_teacher, shuffled
from training.stages.student import Start, Trained, distillation_loss, ramped, train_student
from training.stages.teacher import train_teacher
from training.stages.terms import TermSpec, build_terms
from training.stages.tnet import hallucination_scores, train_tnets
from training.stages.weights import gradient_norms

MakeSetting = Callable[[str], Setting]


def with_student(setting: Setting, **values: object) -> Setting:
    """The setting with other student settings."""
    student = setting.config.student.model_copy(update=values)
    return replace(setting, config=setting.config.model_copy(update={"student": student}))


@pytest.mark.parametrize("task", ["pain", "valence-arousal", "classification", "regression"])
def test_the_whole_line_learns_what_the_toy_people_show(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    encoders = {m: train_encoder(setting, m, "encoder")[0] for m in setting.config.modalities}
    teacher, _ = train_teacher(setting, encoders, setting.config.modalities, name="teacher")
    hallucinating, report = train_tnets(setting, ("face",), encoders, teacher)
    material = Material(encoders, hallucinating.tnets.state_dict(), teacher, joint_teacher)
    student = train_student(setting, ("face",), material, METHODS["PKDOT"], "row").student
    assert isinstance(student, Student)

    scores = predict_people(setting, student, ("face",), setting.test).scores()

    assert min(report.scores) < report.scores[0]
    missing = setting.config.missing(("face",))[0]
    assert hallucination_scores(setting, student, teacher, setting.test)[missing]["r2"] > 0.3
    if task in ("pain", "classification"):
        assert scores["accuracy"] > 0.3  # chance is 0.2
        assert scores["clips"] == len(setting.test)
    elif task == "valence-arousal":
        assert scores["ccc_mean"] > 0.5
        assert scores["frames"] == 50 * len(setting.test)
    else:
        assert scores["ccc_mean"] > 0.5
        assert scores["clips"] == len(setting.test)


def test_no_gradient_reaches_the_teacher_and_one_reaches_every_part_of_the_student(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    teacher, student = setting.new_teacher(("face", "eda")), setting.new_student(("face",))
    batch = setting.train.batch(torch.arange(16))
    terms = build_terms(("KD", "OT"), TermSpec(setting.config.student, "pain", setting.config.network.dim), seed=0)

    out = setting.forward(student, batch)
    loss = distillation_loss(terms, {"KD": 0.5, "OT": 0.5}, out, Lesson(setting.seen(teacher, batch)), batch)
    (loss + expected_error_loss(out.log_variance["eda"], torch.ones(16))).backward()

    assert all(p.grad is None for p in teacher.parameters())
    assert [name for name, p in student.named_parameters() if p.grad is None] == []


def test_what_the_tnet_expects_of_its_error_teaches_it_nothing_about_the_features(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student = setting.new_student(("face",))

    out = setting.forward(student, setting.train.batch(torch.arange(16)))
    expected_error_loss(out.log_variance["eda"], torch.rand(16)).backward()

    taught = {name.split(".")[2] for name, p in student.named_parameters() if p.grad is not None}
    assert taught == {"doubt"}


def test_the_expected_error_is_best_where_it_is_the_error() -> None:
    error = torch.tensor([0.5, 2.0])

    at_truth = float(expected_error_loss(error.log(), error))

    assert at_truth == pytest.approx(0.5 * (1.0 + 0.5 * (np.log(0.5) + np.log(2.0))))
    for wrong in (0.1, -0.1):
        assert float(expected_error_loss(error.log() + wrong, error)) > at_truth


def test_a_ramp_rises_in_a_line_and_stays() -> None:
    assert [ramped(done, 0.2) for done in (0.0, 0.1, 0.2, 0.9)] == [0.0, 0.5, 1.0, 1.0]
    assert ramped(0.0, 0.0) == 1.0


def test_every_method_starts_from_the_same_weights(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    first = setting.new_student(("face",)).state_dict()
    torch.rand(7)

    second = setting.new_student(("face",)).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


def _train_from_new(setting: Setting, method: Method) -> tuple[Student, Student]:
    """A student that stage 3 trained, and the one that it began with, whose T-Nets nobody has trained."""
    new, teacher = setting.new_student(("face",)), setting.new_teacher(("face", "eda"))
    encoders = {"face": new.encoders["face"].state_dict()}
    material = Material(encoders, new.tnets.state_dict(), teacher, joint_teacher)
    trained = train_student(setting, ("face",), material, method, "row").student
    assert isinstance(trained, Student)
    return trained, new


@pytest.mark.parametrize("method", BASIC)
def test_with_frozen_encoders_only_a_trained_tnet_is_frozen_too(toy_setting: MakeSetting, method: str) -> None:
    trained, new = _train_from_new(with_student(toy_setting("pain"), trainable="fusion", epochs=1), METHODS[method])

    def kept(part: str) -> bool:
        after, before = (getattr(net, part).state_dict() for net in (trained, new))
        return all(torch.equal(after[name], value) for name, value in before.items())

    assert kept("encoders")
    assert kept("tnets") is METHODS[method].trained_tnet


def test_of_several_gradient_ratios_the_selection_people_choose(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    new, teacher = setting.new_student(("face",)), setting.new_teacher(("face", "eda"))
    encoders = {"face": new.encoders["face"].state_dict()}

    def best(*ratios: float) -> tuple[float, float]:
        own = with_student(setting, gradient_ratios=ratios, epochs=2)
        method = Method(trained_tnet=False, terms=("KD",))
        name = f"row-{ratios}"  # under one name the second call would be given the first one's result
        trained = train_student(own, ("face",), Material(encoders, {}, teacher, joint_teacher), method, name)
        return min(trained.report.scores), trained.ratio

    apart = [best(ratio) for ratio in (0.1, 3.0)]

    assert best(0.1, 3.0) == min(apart)


def test_a_training_stopped_in_its_second_ratio_goes_on_there(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    always_saves = SimpleNamespace(monotonic=partial(next, count(0, 100)))
    monkeypatch.setattr("training.loop.loop.time", always_saves)
    setting = replace(with_student(toy_setting("pain"), gradient_ratios=(0.1, 3.0), epochs=2), scratch=tmp_path)
    new, teacher = setting.new_student(("face",)), setting.new_teacher(("face", "eda"))
    material = Material({"face": new.encoders["face"].state_dict()}, {}, teacher, joint_teacher)
    method = Method(trained_tnet=False, terms=("KD",))
    seen: list[float] = []

    def stop_in_the_second(done: float, ramp: float) -> float:
        seen.append(done)
        if seen.count(min(seen)) == 2 and done > 0.5:
            raise InterruptedError
        return ramped(done, ramp)

    whole = train_student(setting, ("face",), material, method, "whole")
    with monkeypatch.context() as patch:
        patch.setattr("training.stages.student.ramped", stop_in_the_second)
        with pytest.raises(InterruptedError):
            train_student(setting, ("face",), material, method, "stopped")
    (left,) = tmp_path.glob("*.state")
    gone_on = train_student(setting, ("face",), material, method, "stopped")

    assert left.name == "stopped-3.state"
    assert (gone_on.report, gone_on.weights, gone_on.ratio) == (whole.report, whole.weights, whole.ratio)


def test_gradients_are_measured_once_for_all_ratios_and_each_has_the_weights_it_has_alone(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = toy_setting("pain")
    new, teacher = setting.new_student(("face",)), setting.new_teacher(("face", "eda"))
    material = Material({"face": new.encoders["face"].state_dict()}, {}, teacher, shuffled)
    measured, given = [], []

    def watch(*arguments: Any) -> dict[str, float]:
        measured.append(arguments)
        return gradient_norms(*arguments)

    def untrained(_: Setting, start: Start, *__: object) -> Trained:
        given.append(start.weights)
        return Trained(start.student, start.terms, FitReport([0.0], [1.0], 0), start.weights, start.ratio)

    monkeypatch.setattr("training.stages.weights.gradient_norms", watch)
    monkeypatch.setattr("training.stages.student._train", untrained)
    for ratios in ((0.1, 0.3, 3.0), (0.1,), (0.3,), (3.0,)):
        own = with_student(setting, gradient_ratios=ratios)
        train_student(own, ("face",), material, Method(trained_tnet=False, terms=("KD", "OT")), f"row-{ratios}")

    assert len(measured) == 4
    assert given[:3] == given[3:]
    assert given[0]["OT"] == pytest.approx(given[2]["OT"] / 30)


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

    scores = predict_people(setting, setting.new_teacher(("face",)), ("face",), setting.test).scores()

    assert (scores["accuracy"], scores["unanswered"]) == (0.0, len(setting.test))


def test_scores_are_told_apart_by_group(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    clips = tuple(
        replace(clip, groups={"sex": "female" if int(clip.subject[-2:]) % 2 else "male"})
        for clip in setting.corpus.clips
    )
    setting = replace(setting, corpus=replace(setting.corpus, clips=clips))

    said = predict_people(setting, setting.new_teacher(("face",)), ("face",), setting.test)
    reports = group_scores(setting, said)

    assert set(reports["sex"].groups) <= {"female", "male"}
    assert sum(group.people for group in reports["sex"].groups.values()) == len(set(said.person.tolist()))
    assert set(reports["age"].groups) == {"unknown"}


def test_conformal_sets_hold_the_promised_share_of_calibration_people(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    everyone = replace(setting, calibrate=setting.train)  # nine people: with fewer there is no quantile for 90 %
    net = setting.new_teacher(("face",))

    calibration, fit = calibrate(everyone, net, ("face",))

    assert fit is not None
    logits = run_over(net, everyone.calibrate, setting.device).output.numpy()
    probabilities = corn_probabilities(logits, fit.temperature)
    true = probabilities[np.arange(len(probabilities)), everyone.calibrate.targets.numpy()]
    quantile = calibration.quantiles["pain"]
    assert quantile is None or (1 - true <= quantile + 1e-9).mean() >= 0.9
    assert calibration.people == len(torch.unique(everyone.calibrate.person))
    assert (quantile is None) == (calibration.people < 9) == (calibration.coverage == {})


def test_too_few_calibration_people_give_no_quantile_and_the_reason(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")

    calibration, _ = calibrate(setting, setting.new_teacher(("face",)), ("face",))

    assert calibration.quantiles == {"pain": None}
    assert calibration.reason is not None
    assert "2 calibration people are too few for 90%, which needs 9" in calibration.reason


@pytest.mark.parametrize(
    ("part", "kept", "complaint"),
    [
        ("train", 3, "student.k is 4, but the train people have only 3 windows"),
        ("train", 1, "at least 2"),
        ("select", 0, "have 0"),
    ],
)
def test_parts_that_cannot_do_their_work_are_refused_before_training(
    toy_setting: MakeSetting, part: str, kept: int, complaint: str
) -> None:
    setting = toy_setting("pain")
    short = replace(setting, **{part: getattr(setting, part).pick(torch.arange(kept))})

    with pytest.raises(SplitError, match=complaint):
        check_parts(short)


@pytest.mark.parametrize("task", ["pain", "classification"])
def test_training_labels_of_one_class_are_refused_and_the_class_is_named(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    targets = setting.train.targets
    one, two = (
        replace(setting, train=replace(setting.train, targets=torch.where(targets <= last, targets, -1)))
        for last in (0, 1)
    )

    check_parts(two)
    with pytest.raises(SplitError) as raised:
        check_parts(one)

    assert str(raised.value) == (
        "every labelled window of the train people is 'BL1', of the classes BL1, PA1, PA2, PA3, PA4; labels of at "
        "least two are needed"
    )

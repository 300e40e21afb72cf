"""A run from recipe to bundle: what is found is found once, and what stands in for calibration people says so."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.manifest import Calibration
from pkdot import main
from training.config import ConfigError, RunConfig
from training.corpora.splits import SplitError
from training.run import evaluate_run, export_run, train
from training.run_folder import RunFolder
from training.scores.intervals import score_intervals
from training.scores.predictions import load_predictions
from training.stages.calibration import calibrate, fitted_temperature, output_scores, said_of
from training.stages.checks import check_parts_left_out
from training.stages.crossfit import dealt_people
from training.stages.evaluate import predict_people
from training.stages.export import Measured
from training.stages.kept import load_student, load_teacher, shared_stages
from training.stages.out_of_fold import out_of_fold_scores
from training.stages.setting import Setting
from training.stages.tnet import hallucination_scores

MakeSetting = Callable[[str], Setting]
ToyRun = Callable[..., tuple[Setting, RunFolder]]
QUICK = {name: {"epochs": 1, "batch": 8} for name in ("encoders", "teacher", "tnet")}
QUICK["student"] = {"epochs": 1, "batch": 8, "k": 4}


@pytest.fixture
def toy_run(toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ToyRun:
    """`toy_run(task, **config)`: the setting of a quick run on features, and its folder; `train` opens the same."""

    def make(task: str, **values: object) -> tuple[Setting, RunFolder]:
        toy = toy_setting(task)
        setting = replace(toy, config=RunConfig.model_validate(toy.config.model_dump() | QUICK | values))

        @contextmanager
        def open_toy(_: RunConfig, folder: Path) -> Iterator[Setting]:
            (folder / "scratch").mkdir(parents=True, exist_ok=True)
            yield replace(setting, scratch=folder / "scratch")

        monkeypatch.setattr("training.run.open_setting", open_toy)
        return setting, RunFolder(tmp_path / "run")

    return make


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Measured]:
    """What would have become bundles: writing ONNX graphs takes longer than all the rest."""
    found: list[Measured] = []
    monkeypatch.setattr("training.run.export_bundle", lambda *arguments: found.append(arguments[2]))
    return found


def test_the_bundle_has_the_calibration_that_was_scored_and_nothing_is_calibrated_twice(
    toy_run: ToyRun, exported: list[Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, folder = toy_run("classification")
    asked = []

    def watch(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return calibrate(*arguments)

    monkeypatch.setattr("training.run.calibrate", watch)
    train(setting.config, folder.path, resume=False)
    export_run(setting, folder)

    assert asked == [("face", "text"), ("face",)]  # the teacher, and its one student
    student = load_student(setting, folder, ("face",), "student-face")
    assert exported[0].calibrations == {("face",): calibrate(setting, student, ("face",))[0]}
    assert exported[1] == exported[0]


def test_a_run_that_was_not_evaluated_is_so_before_it_is_exported(toy_run: ToyRun, exported: list[Measured]) -> None:
    setting, folder = toy_run("regression")
    train(setting.config, folder.path, resume=False)
    (folder.path / "metrics.json").unlink()

    export_run(setting, folder)

    assert exported[0].calibrations[("face",)].kind == "none"
    assert exported[1] == exported[0]


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_evaluate_prints_and_keeps_the_interval_of_every_score_and_the_number_of_people(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    setting, folder = toy_run(task)
    train(setting.config, folder.path, resume=False)
    monkeypatch.setattr("training.cli._open_run", lambda path: (setting, RunFolder(path)))
    monkeypatch.setattr("sys.argv", ["pkdot", "evaluate", str(folder.path), "--json"])

    with pytest.raises(SystemExit) as done:
        main()

    assert done.value.code == 0
    printed, kept = json.loads(capsys.readouterr().out), folder.metrics()
    assert printed.pop("protocol") == setting.protocol
    assert list(printed) == ["student face", "teacher"]
    for who, said in printed.items():
        predictions = load_predictions(folder.path / "predictions" / f"{who.replace(' ', '-')}.npz")
        assert said == kept["test"][who] | {"intervals": kept["test_intervals"][who]}
        assert said["people"] == len(np.unique(predictions.person)) == 3
        assert said["intervals"] == {name: list(own) for name, own in score_intervals([predictions]).items() if own}
        assert set(said) - set(said["intervals"]) == {"intervals", "people", "clips"} | (
            {"unanswered"} if task == "classification" else set()
        )


@pytest.mark.usefixtures("exported")
def test_each_person_has_a_score_and_the_answers_say_how_they_came_about(toy_run: ToyRun) -> None:
    setting, folder = toy_run("classification")
    stamp = "NOT SUBJECT-INDEPENDENT: 5 folds by clip; 12 people, split seed 0"

    train(setting.config, folder.path, resume=False)
    evaluate_run(replace(setting, split=setting.split._replace(sentence=stamp)), folder)

    scores = folder.metrics()["test_people"]
    assert list(scores) == ["student face", "teacher"]
    for who, by_person in scores.items():
        file = folder.path / "predictions" / f"{who.replace(' ', '-')}.npz"
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["protocol"].tolist() == [f"{stamp}; fold 0 tested."]
        said = load_predictions(file)
        right = said.said.argmax(axis=1) == said.truth
        people = np.unique(said.person)
        assert len(people) == 3
        assert by_person == {person: pytest.approx(right[said.person == person].mean()) for person in people}


@pytest.mark.usefixtures("exported")
def test_the_calibration_error_on_test_people_is_kept_without_and_with_the_temperature(toy_run: ToyRun) -> None:
    setting, folder = toy_run("classification")

    train(setting.config, folder.path, resume=False)

    fit = folder.metrics()["test_calibration"]["student face"]["temperature_fit"]
    student = load_student(setting, folder, ("face",), "student-face")
    plain = predict_people(setting, student, ("face",), setting.test)
    served = load_predictions(folder.path / "predictions" / "student-face.npz")
    assert fit["test_ece_before"] == plain.calibration_error()
    assert fit["test_ece_after"] == served.calibration_error() != plain.calibration_error()
    assert served.calibrated is None  # what was said is calibrated already


@pytest.mark.usefixtures("exported")
def test_hallucinations_are_scored_on_people_who_chose_no_epoch(toy_run: ToyRun) -> None:
    setting, folder = toy_run("classification", tnet={"epochs": 20, "batch": 8})

    train(setting.config, folder.path, resume=False)

    student = load_student(setting, folder, ("face",), "student-face")
    teacher = load_teacher(setting, folder)
    found = folder.metrics()["test_hallucination"]
    assert found == {"student face": hallucination_scores(setting, student, teacher, setting.test)}
    assert found["student face"] != folder.metrics()["student-face"]["hallucination_selection_people"]
    assert set(found["student face"]["text"]) == {"r2", "cosine", "uncertainty_correlation"}


@pytest.mark.usefixtures("exported")
def test_a_calibration_of_another_version_is_named(toy_run: ToyRun) -> None:
    setting, folder = toy_run("regression")
    train(setting.config, folder.path, resume=False)
    folder.add_metrics("test_calibration", {"student face": {"temperature_fit": None, "quantile": 0.3}})

    with pytest.raises(ConfigError, match=r"has no calibration of student face that this version can read"):
        export_run(setting, folder)


def test_without_being_asked_too_few_people_get_no_set_and_the_reason(
    toy_run: ToyRun, exported: list[Measured]
) -> None:
    setting, folder = toy_run("classification")

    train(setting.config, folder.path, resume=False)

    calibration = exported[0].calibrations[("face",)]
    assert (calibration.kind, calibration.quantiles, calibration.coverage) == ("none", {"class": None}, {})
    assert calibration.reason == "2 calibration people are too few for 90%, which needs 9: no set or interval is given"
    assert not (folder.path / "out-of-fold").exists()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_pooled_scores_of_people_unseen_stand_in_where_the_recipe_asks(
    toy_run: ToyRun, exported: list[Measured], task: str
) -> None:
    setting, folder = toy_run(task, calibration={"few_people": "out-of-fold", "parts": 2})

    train(setting.config, folder.path, resume=False)

    calibration = exported[0].calibrations[("face",)]
    people = set(setting.train.person.tolist()) | set(setting.calibrate.person.tolist())
    assert calibration.kind == "heuristic"
    assert (calibration.people, calibration.windows) == (len(people), 5 * len(people))
    assert all(covered.people == len(set(setting.test.person.tolist())) for covered in calibration.coverage.values())
    expected = _by_hand(setting, folder)
    assert calibration.quantiles == pytest.approx(expected.quantiles)
    assert set(calibration.coverage) == set(expected.quantiles)


def _by_hand(setting: Setting, folder: RunFolder) -> Calibration:
    """Each person scored by the net that did not see him or her, from the checkpoints."""
    part = dealt_people(setting, 2)
    scores: dict[str, list[np.ndarray]] = {}
    for number, windows in [
        (0, setting.train.pick(part[setting.train.person] == 0)),
        (1, setting.train.pick(part[setting.train.person] == 1)),
        (None, setting.calibrate),
    ]:
        own = folder if number is None else RunFolder(folder.path / "out-of-fold" / f"without-part-{number}")
        student = load_student(setting, own, ("face",), "student-face")
        fit = fitted_temperature(setting, student, ("face",))
        said = said_of(setting, student, windows, fit.temperature if fit else 1.0)
        for name, values in output_scores(setting, said).items():
            scores.setdefault(name, []).append(values)
    # everybody has five windows, so each window weighs the same
    quantiles = {
        name: float(np.quantile(np.concatenate(own), 0.9, method="inverted_cdf")) for name, own in scores.items()
    }
    return Calibration(quantiles=quantiles, people=0, windows=0)


@pytest.mark.usefixtures("exported")
def test_a_net_that_scores_a_person_never_saw_that_person(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, folder = toy_run("classification", calibration={"few_people": "out-of-fold", "parts": 3})
    learned: list[set[int]] = []

    def watch(own: Setting, below: RunFolder) -> Any:
        learned.append(set(own.train.person.tolist()))
        return shared_stages(own, below)

    monkeypatch.setattr("training.stages.out_of_fold.shared_stages", watch)
    train(setting.config, folder.path, resume=False)

    everybody, part = set(setting.train.person.tolist()), dealt_people(setting, 3)
    assert learned == [{person for person in everybody if part[person] != number} for number in range(3)]
    scored = out_of_fold_scores(setting, folder, ("face",))
    assert scored is not None
    assert set(scored.person.tolist()) == everybody


def test_a_card_and_a_manifest_say_heuristic(toy_run: ToyRun) -> None:
    setting, folder = toy_run("classification", calibration={"few_people": "out-of-fold", "parts": 2})

    made = train(setting.config, folder.path, resume=False)

    assert made is not None
    card = (made.path / "card.md").read_text()
    assert "which needs 9: a heuristic instead, the pooled out-of-fold scores of 7 people" in card
    assert "**heuristic:**" in card
    assert "hierarchical conformal" not in card
    assert '"heuristic": true' in (made.path / "manifest.json").read_text()


def test_enough_calibration_people_need_no_stand_in(toy_run: ToyRun, exported: list[Measured]) -> None:
    setting, folder = toy_run(
        "classification", confidence_level=0.5, calibration={"few_people": "out-of-fold", "parts": 2}
    )

    train(setting.config, folder.path, resume=False)

    assert exported[0].calibrations[("face",)].kind == "conformal"
    assert not (folder.path / "out-of-fold").exists()


def test_more_parts_than_people_are_refused(toy_run: ToyRun) -> None:
    setting, _ = toy_run("classification", calibration={"few_people": "out-of-fold", "parts": 50})

    with pytest.raises(SplitError, match=r"calibration\.parts is 50, but there are only 5 training people"):
        check_parts_left_out(setting)


def test_a_part_without_which_nothing_is_labelled_is_refused(toy_run: ToyRun) -> None:
    setting, _ = toy_run("classification", calibration={"few_people": "out-of-fold", "parts": 2})
    one = setting.train.person == setting.train.person[0]

    with pytest.raises(SplitError, match=r"calibration\.parts: with one part left out, .* have 0 labelled"):
        check_parts_left_out(replace(setting, train=setting.train.with_labels_of(one)))


@pytest.mark.usefixtures("exported")
def test_an_evaluation_again_gives_the_same_calibration(toy_run: ToyRun) -> None:
    setting, folder = toy_run("classification", calibration={"few_people": "out-of-fold", "parts": 2})
    train(setting.config, folder.path, resume=False)
    before = folder.metrics()["test_calibration"]

    evaluate_run(setting, folder)

    assert folder.metrics()["test_calibration"] == before

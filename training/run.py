"""One run: encoders, teacher, T-Net, student, evaluation, export. A finished stage is not done again on `--resume`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from models.bundle import Bundle
from models.manifest import Calibration
from models.nets.student import Student
from models.nets.teacher import Teacher
from training.config import ConfigError, RunConfig
from training.loop.distributed import is_first_rank
from training.run_folder import RunFolder
from training.scores.intervals import score_intervals
from training.scores.metrics import score_by_person
from training.stages.calibration import calibrate, temperature_metrics
from training.stages.evaluate import group_scores, predict_people
from training.stages.export import Measured, export_bundle
from training.stages.kept import label, load_student, load_teacher, shared_stages, student_stages
from training.stages.methods import ROWS
from training.stages.out_of_fold import out_of_fold_scores, train_out_of_fold
from training.stages.prepare import open_setting
from training.stages.setting import Setting
from training.stages.tnet import hallucination_scores

INTERVALS = "test_intervals"
"""In metrics.json: of each score, 95 % over the test people."""
CALIBRATIONS = "test_calibration"
"""In metrics.json; written last of what `evaluate_run` finds."""


def train(config: RunConfig, path: Path, *, resume: bool) -> Bundle | None:
    """Do what is not done yet of the run in folder `path`, and return its bundle; None on ranks but the first."""
    folder = RunFolder(path)
    folder.check(config, resume=resume)
    with open_setting(config, folder.path) as setting:
        folder.begin(config, setting.contents, resume=resume)
        encoders, teacher = shared_stages(setting, folder)
        for available in config.students:
            student_stages(setting, folder, encoders, teacher, available, ROWS["PKDOT"], f"student-{label(available)}")
        train_out_of_fold(setting, folder)
        if not is_first_rank():
            return None
        evaluate_run(setting, folder)
        return export_run(setting, folder)


def evaluate_run(setting: Setting, folder: RunFolder) -> dict[str, dict[str, float]]:
    """Scores of the teacher and of every student on the test people, also written to metrics.json."""
    config = setting.config
    teacher, students = load_teacher(setting, folder), _students(setting, folder)
    nets: dict[str, tuple[nn.Module, tuple[str, ...]]] = {"teacher": (teacher, config.modalities)}
    nets |= {f"student {label(available)}": (student, available) for available, student in students.items()}
    folder.add_metrics("protocol", setting.protocol)
    scores: dict[str, dict[str, float]] = {}
    people: dict[str, dict[str, float]] = {}
    groups: dict[str, Any] = {}
    calibrations: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for who, (net, needed) in nets.items():
        calibration, fit = calibrate(setting, net, needed, out_of_fold_scores(setting, folder, needed))
        tested = predict_people(setting, net, needed, setting.test, temperature=fit and fit.temperature)
        said = tested.with_temperature()
        said.save(folder.path / "predictions" / f"{who.replace(' ', '-')}.npz", setting.protocol)
        scores[who] = said.scores()
        people[who] = score_by_person(said.task, said.said, said.truth, said.person)
        intervals[who] = score_intervals([said])
        groups[who] = {name: report._asdict() for name, report in group_scores(setting, said).items()}
        calibrations[who] = {"temperature_fit": fit and temperature_metrics(fit, tested), **calibration.model_dump()}
    folder.add_metrics("test", scores)
    folder.add_metrics(INTERVALS, intervals)
    folder.add_metrics("test_people", people)
    folder.add_metrics("test_groups", groups)
    folder.add_metrics("test_hallucination", _hallucinations(setting, teacher, students))
    folder.add_metrics(CALIBRATIONS, calibrations)
    return scores


def _hallucinations(
    setting: Setting, teacher: Teacher, students: Mapping[tuple[str, ...], Student]
) -> dict[str, dict[str, dict[str, float]]]:
    """How good the hallucinations are on test people, by student; none where those lack a modality throughout."""
    if not len(setting.test.with_all(setting.config.modalities)):
        return {}
    return {
        f"student {label(available)}": hallucination_scores(setting, student, teacher, setting.test)
        for available, student in students.items()
        if student.hallucinated
    }


def export_run(setting: Setting, folder: RunFolder, to: Path | None = None) -> Bundle:
    """Write the run's bundle, with what `evaluate_run` found, into `to` or the run's own folder."""
    students = _students(setting, folder)
    if CALIBRATIONS not in folder.metrics():
        evaluate_run(setting, folder)
    found = folder.metrics()
    calibrations = {available: _calibration(folder, f"student {label(available)}") for available in students}
    metrics = {f"{who}: {name}": value for who, scores in found["test"].items() for name, value in scores.items()}
    measured = Measured(calibrations, metrics, found["test_groups"])
    return export_bundle(setting, students, measured, to or folder.bundle)


def _calibration(folder: RunFolder, who: str) -> Calibration:
    """What `evaluate_run` wrote of `who`."""
    try:
        values = dict(folder.metrics()[CALIBRATIONS][who])
        values.pop("temperature_fit")
        return Calibration.model_validate(values)
    except (KeyError, ValidationError):
        raise ConfigError(
            f"metrics.json of {folder.path} has no calibration of {who} that this version can read; "
            f"run `pkdot evaluate {folder.path}` first"
        ) from None


def _students(setting: Setting, folder: RunFolder) -> dict[tuple[str, ...], Student]:
    return {
        available: load_student(setting, folder, available, f"student-{label(available)}")
        for available in setting.config.students
    }

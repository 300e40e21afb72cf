"""One run: encoders, teacher, T-Net, student, evaluation, export. A finished stage is not done again on `--resume`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from models.bundle import Bundle
from models.nets.oracle import Oracle
from models.nets.student import Student
from models.nets.teacher import Teacher
from training.config import RunConfig
from training.distributed import is_first_rank
from training.run_folder import RunFolder
from training.stages.calibration import calibrate
from training.stages.diagnostics import structure_diagnostics
from training.stages.encoders import train_encoder
from training.stages.evaluate import group_scores, predict_people
from training.stages.export import Measured, export_bundle
from training.stages.material import Encoders, Material
from training.stages.methods import ROWS, Method
from training.stages.prepare import open_setting
from training.stages.setting import Setting
from training.stages.student import train_student
from training.stages.teacher import train_teacher
from training.stages.teaching import TeacherFolder
from training.stages.tnet import hallucination_scores, train_tnets


def train(config: RunConfig, path: Path, *, resume: bool) -> Bundle | None:
    """Do what is not done yet of the run in folder `path`, and return its bundle; None on ranks but the first."""
    folder = RunFolder(path)
    folder.check(config, resume=resume)
    with open_setting(config, folder.path) as setting:
        folder.begin(config, resume=resume)
        encoders, teacher = shared_stages(setting, folder)
        for available in config.students:
            student_stages(setting, folder, encoders, teacher, available, ROWS["PKDOT"], f"student-{label(available)}")
        if not is_first_rank():
            return None
        evaluate_run(setting, folder)
        return export_run(setting, folder)


def label(available: tuple[str, ...]) -> str:
    """How a set of modalities is written in file names and tables."""
    return "+".join(available)


def shared_stages(setting: Setting, folder: RunFolder) -> tuple[Encoders, Teacher]:
    """Stages 0 and 1, which all students of a run share."""
    encoders = {modality: _encoder(setting, folder, modality) for modality in setting.config.modalities}
    weights = folder.load("teacher")
    if weights is not None:
        teacher = setting.new_teacher(setting.config.modalities)
        teacher.load_state_dict(weights)
        return encoders, teacher.eval()
    teacher, report = train_teacher(setting, encoders, setting.config.modalities, name="teacher")
    folder.finish("teacher", teacher.state_dict(), asdict(report))
    return encoders, teacher


def _encoder(setting: Setting, folder: RunFolder, modality: str) -> dict[str, Any]:
    name = f"encoder-{modality}"
    weights: dict[str, Any] | None = folder.load(name)
    if weights is None:
        weights, report = train_encoder(setting, modality)
        folder.finish(name, weights, asdict(report))
    return weights


def student_stages(
    setting: Setting,
    folder: RunFolder,
    encoders: Encoders,
    teacher: Teacher,
    available: tuple[str, ...],
    method: Method,
    name: str,
) -> None:
    """Stages 2 and 3 for one set of available modalities; the result is checkpoint `name`."""
    if not setting.config.missing(available) or folder.load(name) is not None:
        return  # with everything there the teacher itself is the student
    tnets = _tnets(setting, folder, encoders, teacher, available) if method.trained_tnet else {}
    source = TeacherFolder(setting, folder, encoders, teacher, available).source(method.teacher)
    trained = train_student(setting, available, Material(encoders, tnets, teacher, source), method)
    metrics = asdict(trained.report) | {"weights": trained.weights, "gradient_ratio": trained.ratio}
    student = trained.student
    if method.trained_tnet and isinstance(student, Student):
        metrics["hallucination_selection_people"] = hallucination_scores(setting, student, teacher, setting.select)
    if "OT" in method.terms and isinstance(student, Student):
        config = method.change(setting.config.student)
        metrics["structure"] = structure_diagnostics(setting, student, teacher, config, ot_weight=trained.weights["OT"])
    folder.finish(name, student.state_dict(), metrics)


def _tnets(
    setting: Setting, folder: RunFolder, encoders: Encoders, teacher: Teacher, available: tuple[str, ...]
) -> dict[str, Any]:
    """Stage 2, which all students of one set share."""
    name = f"tnet-{label(available)}"
    weights: dict[str, Any] | None = folder.load(name)
    if weights is None:
        hallucinating, report = train_tnets(setting, available, encoders, teacher)
        weights = hallucinating.tnets.state_dict()
        found = hallucination_scores(setting, hallucinating, teacher, setting.select)
        folder.finish(name, weights, {**asdict(report), "hallucination_selection_people": found})
    return weights


def load_teacher(setting: Setting, folder: RunFolder) -> Teacher:
    """The teacher of a run that has one."""
    teacher = setting.new_teacher(setting.config.modalities)
    teacher.load_state_dict(folder.require("teacher"))
    return teacher.eval()


def load_student(setting: Setting, folder: RunFolder, available: tuple[str, ...], name: str) -> Student:
    """The exported kind of student, from checkpoint `name`; where nothing is missing, with the teacher's weights."""
    student = setting.new_student(available)
    student.load_state_dict(folder.require(name if setting.config.missing(available) else "teacher"))
    return student.eval()


def load_row(
    setting: Setting, folder: RunFolder, available: tuple[str, ...], name: str, method: Method
) -> Student | Oracle:
    """The student of a row of the table, from checkpoint `name`."""
    student = setting.new_student(available, hallucinates=method.hallucinates)
    net = Oracle(student, load_teacher(setting, folder)) if method.graph == "oracle" else student
    net.load_state_dict(folder.require(name))
    return net.eval()


def evaluate_run(setting: Setting, folder: RunFolder) -> dict[str, dict[str, float]]:
    """Scores of the teacher and of every student on the test people, also written to metrics.json."""
    config = setting.config
    nets: dict[str, tuple[nn.Module, tuple[str, ...]]] = {"teacher": (load_teacher(setting, folder), config.modalities)}
    for available, student in _students(setting, folder).items():
        nets[f"student {label(available)}"] = (student, available)
    folder.add_metrics("protocol", setting.protocol)
    scores: dict[str, dict[str, float]] = {}
    groups: dict[str, Any] = {}
    calibrations: dict[str, Any] = {}
    for who, (net, needed) in nets.items():
        calibration, fit = calibrate(setting, net, needed)
        said = predict_people(setting, net, needed, setting.test, temperature=calibration.temperature)
        said.save(folder.path / "predictions" / f"{who.replace(' ', '-')}.npz")
        scores[who] = said.scores()
        groups[who] = {name: report._asdict() for name, report in group_scores(setting, said).items()}
        calibrations[who] = {"temperature_fit": fit and fit._asdict(), **calibration.model_dump()}
    folder.add_metrics("test", scores)
    folder.add_metrics("test_groups", groups)
    folder.add_metrics("test_calibration", calibrations)
    return scores


def export_run(setting: Setting, folder: RunFolder, to: Path | None = None) -> Bundle:
    """Write the run's bundle, into `to` or the run's own folder."""
    students = _students(setting, folder)
    calibrations = {available: calibrate(setting, student, available)[0] for available, student in students.items()}
    found = folder.metrics()
    metrics = {
        f"{who}: {name}": value for who, scores in found.get("test", {}).items() for name, value in scores.items()
    }
    measured = Measured(calibrations, metrics, found.get("test_groups", {}))
    return export_bundle(setting, students, measured, to or folder.bundle)


def _students(setting: Setting, folder: RunFolder) -> dict[tuple[str, ...], Student]:
    return {
        available: load_student(setting, folder, available, f"student-{label(available)}")
        for available in setting.config.students
    }

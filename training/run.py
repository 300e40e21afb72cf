"""One run: encoders, teacher, T-Net, student, evaluation, export. A finished stage is not done again on `--resume`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.nets.student import Student
from models.nets.teacher import Teacher
from training.config import RunConfig
from training.face_nets.fetch import cached_face_nets
from training.run_folder import RunFolder
from training.stages.diagnostics import structure_diagnostics
from training.stages.encoders import train_encoder
from training.stages.evaluate import calibrate, evaluate
from training.stages.export import export_bundle
from training.stages.prepare import prepare_setting
from training.stages.setting import Setting
from training.stages.student import METHODS, Method, train_student
from training.stages.teacher import train_teacher
from training.stages.tnet import hallucination_r2, train_tnets

Encoders = dict[str, dict[str, Any]]


def train(config: RunConfig, path: Path, *, resume: bool) -> Bundle:
    """Do what is not done yet of the run in folder `path`, and return its bundle."""
    folder = RunFolder(path)
    folder.begin(config, resume=resume)
    setting = prepare_setting(config, folder.scratch)
    encoders, teacher = shared_stages(setting, folder)
    for available in config.students:
        student_stages(setting, folder, encoders, teacher, available, METHODS["PKDOT"], f"student-{label(available)}")
    evaluate_run(setting, folder)
    return export_run(setting, folder)


def label(available: tuple[str, ...]) -> str:
    """How a set of modalities is written in file names and tables."""
    return "+".join(available)


def shared_stages(setting: Setting, folder: RunFolder) -> tuple[Encoders, Teacher]:
    """Stages 0 and 1, which all students of a run share."""
    encoders = {modality: _encoder(setting, folder, modality) for modality in setting.config.modalities}
    if folder.load("teacher") is not None:
        return encoders, load_teacher(setting, folder)
    teacher, report = train_teacher(setting, encoders)
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
    tnet = f"tnet-{label(available)}"
    tnets = folder.load(tnet)
    if tnets is None:
        hallucinating, report = train_tnets(setting, available, encoders, teacher)
        tnets = hallucinating.tnets.state_dict()
        r2 = hallucination_r2(setting, hallucinating, teacher, setting.select)
        folder.finish(tnet, tnets, {**asdict(report), "r2_selection_people": r2})
    student, report = train_student(setting, available, encoders, tnets, teacher, method)
    r2 = hallucination_r2(setting, student, teacher, setting.select) if method.trained_tnet else {}
    structure = structure_diagnostics(setting, student, teacher) if method.ot_loss else {}
    folder.finish(name, student.state_dict(), {**asdict(report), "r2_selection_people": r2, "structure": structure})


def load_teacher(setting: Setting, folder: RunFolder) -> Teacher:
    """The teacher of a run that has one."""
    teacher = setting.new_teacher(setting.config.modalities)
    teacher.load_state_dict(folder.require("teacher"))
    return teacher.eval()


def load_student(setting: Setting, folder: RunFolder, available: tuple[str, ...], name: str) -> Student:
    """The student of checkpoint `name`; where nothing is missing, one with the teacher's weights."""
    student = setting.new_student(available)
    student.load_state_dict(folder.require(name if setting.config.missing(available) else "teacher"))
    return student.eval()


def evaluate_run(setting: Setting, folder: RunFolder) -> dict[str, dict[str, float]]:
    """Scores of the teacher and of every student on the test people, also written to metrics.json."""
    config = setting.config
    scores = {"teacher": evaluate(setting, load_teacher(setting, folder), config.modalities)}
    for available in config.students:
        student = load_student(setting, folder, available, f"student-{label(available)}")
        scores[f"student {label(available)}"] = evaluate(setting, student, available)
    folder.add_metrics("test", scores)
    return scores


def export_run(setting: Setting, folder: RunFolder, to: Path | None = None) -> Bundle:
    """Write the run's bundle, into `to` or the run's own folder."""
    students = {
        available: load_student(setting, folder, available, f"student-{label(available)}")
        for available in setting.config.students
    }
    calibrations = {a: calibrate(setting, student, a) for a, student in students.items()}
    metrics = {
        f"{who}: {name}": value
        for who, scores in folder.metrics().get("test", {}).items()
        for name, value in scores.items()
    }
    return export_bundle(setting, students, calibrations, metrics, cached_face_nets(), to or folder.bundle)

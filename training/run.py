"""One run: encoders, teacher, T-Net, student, evaluation, export. A finished stage is not done again on `--resume`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

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
from training.stages.methods import METHODS, Method, TeacherName
from training.stages.prepare import prepare_setting
from training.stages.setting import Setting
from training.stages.student import Shuffled, Teachers, train_student
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
    return encoders, _teacher(setting, folder, encoders, setting.config.modalities, "teacher")


def _teacher(
    setting: Setting, folder: RunFolder, encoders: Encoders, modalities: tuple[str, ...], name: str
) -> Teacher:
    weights = folder.load(name)
    if weights is None:
        teacher, report = train_teacher(setting, encoders, modalities)
        folder.finish(name, teacher.state_dict(), asdict(report))
        return teacher
    teacher = setting.new_teacher(modalities)
    teacher.load_state_dict(weights)
    return teacher.eval()


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
    teachers = Teachers(teacher, _source(setting, folder, encoders, teacher, available, method.teacher))
    student, report, weights = train_student(setting, available, encoders, tnets, teachers, method)
    metrics = asdict(report) | {"weights": weights}
    if method.trained_tnet:
        metrics["r2_selection_people"] = hallucination_r2(setting, student, teacher, setting.select)
    if "OT" in method.terms:
        metrics["structure"] = structure_diagnostics(setting, student, teacher, ot_weight=weights["OT"])
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
        r2 = hallucination_r2(setting, hallucinating, teacher, setting.select)
        folder.finish(name, weights, {**asdict(report), "r2_selection_people": r2})
    return weights


def _source(
    setting: Setting,
    folder: RunFolder,
    encoders: Encoders,
    teacher: Teacher,
    available: tuple[str, ...],
    which: TeacherName,
) -> nn.Module:
    """The teacher that a method's terms see."""
    if which == "joint":
        return teacher
    if which == "shuffled":
        return Shuffled(teacher)
    if which == "untrained":
        return setting.new_teacher(setting.config.modalities)
    modalities = available if which == "prevalent" else setting.config.missing(available)
    return _teacher(setting, folder, encoders, modalities, f"teacher-{label(modalities)}")


def load_teacher(setting: Setting, folder: RunFolder) -> Teacher:
    """The teacher of a run that has one."""
    teacher = setting.new_teacher(setting.config.modalities)
    teacher.load_state_dict(folder.require("teacher"))
    return teacher.eval()


def load_student(
    setting: Setting, folder: RunFolder, available: tuple[str, ...], name: str, *, hallucinates: bool = True
) -> Student:
    """The student of checkpoint `name`; where nothing is missing, one with the teacher's weights."""
    student = setting.new_student(available, hallucinates=hallucinates)
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

"""Stages whose results are kept in a run's folder: what is there is loaded, and what is not is made and kept."""

from dataclasses import asdict
from typing import Any

import numpy as np

from models.nets.oracle import Oracle
from models.nets.student import Student
from models.nets.teacher import Teacher
from training.errors import TrainingError
from training.files.replacing import whole_file
from training.loop.distributed import is_first_rank
from training.run_folder import RunFolder
from training.stages.diagnostics import Measured, matrices, structure_diagnostics
from training.stages.encoders import kept_encoder
from training.stages.material import Encoders, Material
from training.stages.methods import Method
from training.stages.setting import Setting
from training.stages.student import StudentError, forget_ratios, train_student
from training.stages.teacher import train_teacher
from training.stages.teaching import TeacherFolder
from training.stages.tnet import hallucination_scores, train_tnets


def label(available: tuple[str, ...]) -> str:
    """How a set of modalities is written in file names and tables."""
    return "+".join(available)


def shared_stages(setting: Setting, folder: RunFolder) -> tuple[Encoders, Teacher]:
    """Stages 0 and 1, which all students of a run share."""
    encoders = {m: kept_encoder(setting, folder, m, f"encoder-{m}") for m in setting.config.modalities}
    weights = folder.load("teacher")
    if weights is not None:
        teacher = setting.new_teacher(setting.config.modalities)
        teacher.load_state_dict(weights)
        return encoders, teacher.eval()
    teacher, report = train_teacher(setting, encoders, setting.config.modalities, name="teacher")
    folder.finish("teacher", teacher.state_dict(), asdict(report))
    return encoders, teacher


def student_stages(
    setting: Setting,
    folder: RunFolder,
    encoders: Encoders,
    teacher: Teacher,
    available: tuple[str, ...],
    method: Method,
    name: str,
) -> None:
    """Stages 2 and 3 for one set of available modalities; the result is checkpoint `name`.

    Raises StudentError where a teacher of the row's own, or the student, cannot be trained to its end.
    """
    if not setting.config.missing(available) or folder.load(name) is not None:
        return  # with everything there the teacher itself is the student
    tnets = _tnets(setting, folder, encoders, teacher, available) if method.trained_tnet else {}
    try:
        source = TeacherFolder(setting, folder, encoders, teacher, available).source(method)
    except TrainingError as error:  # of a teacher that this row alone asks for
        raise StudentError(str(error)) from error
    material = Material(encoders, tnets, teacher, source)
    trained = train_student(setting, available, material, method, name)
    metrics = asdict(trained.report) | {"weights": trained.weights, "gradient_ratio": trained.ratio}
    student = trained.student
    if method.trained_tnet and isinstance(student, Student):
        metrics["hallucination_selection_people"] = hallucination_scores(setting, student, teacher, setting.select)
    if "OT" in method.terms and isinstance(student, Student):
        measured = Measured(student, trained.terms["OT"], material)
        weight = trained.weights["OT"] / method.task_weight
        metrics["structure"] = structure_diagnostics(setting, measured, method, ot_weight=weight)
        _keep_matrices(setting, folder, measured, name)
    folder.finish(name, student.state_dict(), metrics)
    forget_ratios(setting.scratch, name)


def _keep_matrices(setting: Setting, folder: RunFolder, measured: Measured, name: str) -> None:
    """Write what a plot shows of one batch: it takes the row's teacher and trained term, and neither is kept."""
    values = [one.cpu().numpy() for one in matrices(setting, measured)]
    if is_first_rank():
        with whole_file(folder.path / f"matrices-{name}.npz") as part, part.open("wb") as out:
            np.savez(out, *values)


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

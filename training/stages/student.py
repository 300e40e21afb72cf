"""Stage 3: the student. L = L_task + w_T · L_TNet + lambda · L_OT (PKDOT, arXiv 2401.15489), or another row's terms."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.nets.oracle import Oracle
from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from training.data.window_set import Batch, deal_batches, steps_of_epoch
from training.errors import NotConverged, TrainingError
from training.loop.checkpoint import load_weights, save_weights
from training.loop.distributed import is_first_rank
from training.loop.loop import Bench, FitReport, fit
from training.losses.hallucination import hallucination_loss
from training.stage_config import StudentConfig
from training.stages.bank import BankOT
from training.stages.material import Material
from training.stages.methods import Method
from training.stages.setting import Setting, selection_loss
from training.stages.sources import Lesson
from training.stages.terms import Seen, TermSpec, build_terms, term_loss
from training.stages.weights import start_norms, term_weights


class StudentError(TrainingError):
    """This student's training did not come to its end: what the stages before it made is sound."""


class Trained(NamedTuple):
    """A student, what happened, and how heavy its terms were."""

    student: Student | Oracle
    terms: nn.ModuleDict
    """As they were in the best epoch: some have weights of their own."""
    report: FitReport
    weights: dict[str, float]
    ratio: float
    """Of `gradient_ratios`, the one that the selection people liked best."""


class Start(NamedTuple):
    """With what stage 3 begins."""

    student: Student
    terms: nn.ModuleDict
    weights: dict[str, float]
    ratio: float


def train_student(
    setting: Setting, available: tuple[str, ...], material: Material, method: Method, name: str
) -> Trained:
    """A student for `available`, from stage 0's encoders, and from stage 2's T-Nets if the method has them.

    Under its `name` a training that was stopped goes on where it was. Where terms are balanced and the recipe names
    several ratios, one student is trained for each, and the selection people choose; those that are done stay in the
    scratch folder until `forget_ratios`. Raises StudentError where one of them leaves the finite numbers or its loss
    cannot be solved.
    """
    config = method.change(setting.config.student)
    several = method.weighting == "balanced" and method.terms
    file = _ratios_file(setting.scratch, name)
    done: dict[float, dict[str, Any]] = load_weights(file) if file.exists() else {}
    trained: list[Trained] = []
    norms: dict[str, float] | None = None
    for ratio in config.gradient_ratios if several else config.gradient_ratios[:1]:
        student = start_student(setting, available, material, method, config)
        terms = start_terms(setting, student, material.teacher, method, config)
        if norms is None:  # every ratio starts from the same student
            norms = start_norms(setting, student, terms, material, method)
        start = Start(student, terms, term_weights(norms, terms, config, ratio), ratio)
        if ratio in done:
            trained.append(_restored(start, material, method, done[ratio]))
            continue
        state_file = setting.scratch / f"{name}-{ratio:g}.state"
        one = _train(setting, start, material, method, config, state_file)
        done[ratio] = {
            "student": one.student.state_dict(),
            "terms": one.terms.state_dict(),
            "report": vars(one.report),
            "weights": one.weights,
        }
        if is_first_rank():
            save_weights(file, done)
        trained.append(one)
    return min(trained, key=lambda one: one.report.scores[one.report.best_epoch])


def forget_ratios(scratch: Path, name: str) -> None:
    """Remove what `train_student` has kept under `name`: called when the result lies elsewhere, or there is none."""
    if is_first_rank():
        _ratios_file(scratch, name).unlink(missing_ok=True)


def _ratios_file(scratch: Path, name: str) -> Path:
    return scratch / f"{name}.ratios"


def start_student(
    setting: Setting, available: tuple[str, ...], material: Material, method: Method, config: StudentConfig
) -> Student:
    """The student with which stage 3 begins."""
    student = setting.new_student(available, hallucinates=method.hallucinates)
    for name in available:
        student.encoders[name].load_state_dict(material.encoders[name])
    if method.trained_tnet:
        student.tnets.load_state_dict(material.tnets)
    if config.trainable == "fusion":
        student.encoders.requires_grad_(False)
        student.tnets.requires_grad_(not method.trained_tnet)  # what no stage 2 has trained has to learn now
    return student.eval()


def start_terms(
    setting: Setting, student: Student, teacher: Teacher, method: Method, config: StudentConfig
) -> nn.ModuleDict:
    """The row's terms as stage 3 begins with them."""
    spec = TermSpec(config, setting.config.task, setting.config.network.dim, setting.standardised)
    terms = build_terms(method.terms, spec, seed=0)
    if config.bank and "OT" in terms:
        terms["OT"] = BankOT(setting, config, student, teacher)
    return terms.to(setting.device)


def _train(
    setting: Setting, start: Start, material: Material, method: Method, config: StudentConfig, state_file: Path
) -> Trained:
    student, terms, weights, ratio = start
    teacher, what = material.teacher, "+".join(student.available)
    net = _net(student, material, method)
    banks = [term for term in terms.values() if isinstance(term, BankOT)]

    def step(batch: Batch, noise: torch.Generator, done: float) -> Tensor:
        batch = setting.augmented(batch, noise)
        out = setting.forward(net, batch)
        loss = method.task_weight * setting.task_loss(out.output, batch.targets)
        if not (method.trained_tnet or weights) or not bool(loss.isfinite()):  # terms refuse what is not finite
            return loss
        joint = setting.heard(teacher, batch)
        if method.trained_tnet:
            loss = loss + config.tnet_weight * hallucination_loss(student, out, joint, setting.config.tnet)
        if weights:
            lesson = material.source(batch, joint)
            loss = loss + ramped(done, config.ramp) * distillation_loss(terms, weights, out, lesson, batch)
        for bank in banks:
            bank.follow()
        return loss

    def refresh_banks() -> None:
        for bank in banks:
            bank.refresh()

    both = nn.ModuleDict({"student": net, "terms": terms})
    try:
        report = fit(
            both,
            [p for p in both.parameters() if p.requires_grad],
            step,
            lambda: selection_loss(setting, net, setting.selection),
            setting.pairs,
            config,
            Bench(setting.config.seed, f"student: {what}", state_file, setting.track),
            before_epoch=refresh_banks,
            deal=partial(deal_batches, steps=_steps(setting, config), each=config.windows_each),
        )
    except (TrainingError, NotConverged) as error:
        state_file.unlink(missing_ok=True)  # nothing goes on from here
        raise StudentError(str(error)) from error
    return Trained(net, terms, report, weights, ratio)


def _steps(setting: Setting, config: StudentConfig) -> int | None:
    """Of an epoch, where the row's batch is not the recipe's: as many as the other rows take; else None."""
    recipe = setting.config.student
    return None if config.batch == recipe.batch else steps_of_epoch(setting.pairs, recipe.batch)


def _restored(start: Start, material: Material, method: Method, kept: dict[str, Any]) -> Trained:
    """What `_train` returned before a kill."""
    net = _net(start.student, material, method)
    net.load_state_dict(kept["student"])
    start.terms.load_state_dict(kept["terms"])
    return Trained(net.eval(), start.terms.eval(), FitReport(**kept["report"]), kept["weights"], start.ratio)


def _net(student: Student, material: Material, method: Method) -> Student | Oracle:
    """What is trained: the student, or the oracle around it."""
    return Oracle(student, material.teacher) if method.graph == "oracle" else student


def distillation_loss(
    terms: nn.ModuleDict, weights: Mapping[str, float], out: Forward, lesson: Lesson, batch: Batch
) -> Tensor:
    """The weighted sum of the terms; teachers give numbers, and no gradient reaches them."""
    total = 0.0 * out.z.sum()
    seen = Seen(out, lesson.forward, batch.targets, batch.person)
    for name, weight in weights.items():
        total = total + weight * term_loss(terms[name], seen, lesson.block)
    return total


def ramped(done: float, ramp: float) -> float:
    """The share of a term's weight when `done` of the steps are done: a line from 0 to 1 over the first `ramp`."""
    return 1.0 if done >= ramp else done / ramp

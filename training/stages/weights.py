"""How heavy each term is: one rule for all, so that no method is tuned with more care than another."""

from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward
from training.data.window_set import Batch
from training.stage_config import StudentConfig
from training.stages.material import Material
from training.stages.methods import Method
from training.stages.setting import Setting
from training.stages.terms import Seen, TermSpec, build_terms, gradient_at_z, term_loss

TASK = "task"
PAPERS_PULL = "PKDOT at the paper's weight"


def start_norms(
    setting: Setting, student: Student, terms: nn.ModuleDict, material: Material, method: Method
) -> dict[str, float]:
    """The gradients' sizes at z when stage 3 begins; none where there is nothing to balance.

    They depend on nothing but the start, so a resumed run has them again, and every gradient ratio has the same ones.
    """
    if method.weighting == "paper" or not terms:
        return {}
    batches = list(setting.some_batches(method.change(setting.config.student).windows_each))
    norms = gradient_norms(setting, student, terms, material, batches)
    if method.weighting == "as the paper's":
        recipe = setting.config.student
        paper = build_terms(("OT",), TermSpec(recipe, setting.config.task, setting.config.network.dim), seed=0)
        paper.to(setting.device)
        norms[PAPERS_PULL] = recipe.ot_weight * gradient_norms(setting, student, paper, material, batches)["OT"]
    return norms


def term_weights(
    norms: Mapping[str, float], terms: Iterable[str], config: StudentConfig, ratio: float
) -> dict[str, float]:
    """The weight of each term, from `start_norms`; the paper's where these are empty.

    Balanced: the term's gradient at z is `ratio` times the task's. A term without any gradient gets no weight.
    """
    if not norms:
        return dict.fromkeys(terms, config.ot_weight)
    pull = norms.get(PAPERS_PULL, ratio * norms[TASK])
    return {name: pull / norms[name] if norms[name] > 1e-9 * norms[TASK] else 0.0 for name in terms}


def gradient_norms(
    setting: Setting,
    student: Student,
    terms: nn.ModuleDict,
    material: Material,
    batches: Iterable[Batch],
) -> dict[str, float]:
    """The size of the task's gradient at z and of each term's, summed over `batches`."""
    norms = dict.fromkeys((TASK, *terms), 0.0)
    for batch in batches:
        own = setting.seen(student, batch)
        lesson = material.source(batch, setting.heard(material.teacher, batch))
        seen = Seen(own, lesson.forward, batch.targets, batch.person)
        norms[TASK] += gradient_at_z(own.z, partial(_task_at, setting=setting, student=student, batch=batch))
        for name, term in terms.items():
            loss = partial(_term_at, student=student, term=term, seen=seen, block=lesson.block)
            norms[name] += gradient_at_z(own.z, loss)
    return norms


def _task_at(z: Tensor, *, setting: Setting, student: Student, batch: Batch) -> Tensor:
    """The task's loss as a function of the student's joint representation."""
    return setting.task_loss(student.head(z), batch.targets)


def _term_at(z: Tensor, *, student: Student, term: nn.Module, seen: Seen, block: Tensor | None) -> Tensor:
    """A term as a function of the student's joint representation."""
    own = Forward(seen.student.features, z, student.head(z))
    return term_loss(term, seen._replace(student=own), block)

"""How heavy each term is: one rule for all, so that no method is tuned with more care than another."""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward
from training.data import Batch
from training.stage_config import StudentConfig
from training.stages.material import Material
from training.stages.methods import Method
from training.stages.setting import Setting
from training.stages.terms import Seen, TermSpec, build_terms, gradient_at_z, term_loss

TASK = "task"


def term_weights(
    setting: Setting,
    student: Student,
    terms: nn.ModuleDict,
    material: Material,
    method: Method,
    config: StudentConfig,
    ratio: float,
) -> dict[str, float]:
    """The weight of each term when stage 3 begins; it depends on nothing but the start, so a resumed run has it again.

    Balanced: the term's gradient at z is `ratio` times the task's. A term without any gradient gets no weight.
    """
    if method.weighting == "paper":
        return dict.fromkeys(terms, config.ot_weight)
    batches = list(setting.some_batches())
    norms = gradient_norms(setting, student, terms, material, batches)
    if method.weighting == "as the paper's":
        recipe = setting.config.student
        paper = build_terms(("OT",), TermSpec(recipe, setting.config.task, setting.config.network.dim), seed=0)
        paper.to(setting.device)
        pull = recipe.ot_weight * gradient_norms(setting, student, paper, material, batches)["OT"]
    else:
        pull = ratio * norms[TASK]
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
        lesson = material.source(batch, setting.seen(material.teacher, batch))
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

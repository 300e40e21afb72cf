"""Terms and their weights: one rule for all, and controls that know what they should and no more."""

from collections.abc import Callable

import pytest
import torch

from models.nets.teacher import Forward
from training.losses.task import task_loss
from training.stages.methods import METHODS
from training.stages.setting import Setting
from training.stages.student import Shuffled
from training.stages.terms import TERMS, balanced_weights, gradient_at_z, seen_by

MakeSetting = Callable[[str], Setting]


def test_every_method_names_terms_that_exist() -> None:
    assert {term for method in METHODS.values() for term in method.terms} == set(TERMS)


@pytest.mark.parametrize("task", ["pain", "valence-arousal"])
def test_balanced_terms_pull_a_set_share_of_what_the_task_pulls(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(setting.config.modalities).eval()
    batches = setting.some_batches()[:1]
    config = setting.config.student

    weights = balanced_weights(student, teacher, batches, TERMS, config)

    own, seen = seen_by(student, batches[0]), seen_by(teacher, batches[0])
    pull = gradient_at_z(own.z, lambda z: task_loss(student.head(z), batches[0].targets))
    for name, term in TERMS.items():
        drawn = gradient_at_z(
            own.z, lambda z, t=term: t(Forward(own.features, z, student.head(z)), seen, batches[0].targets, config)
        )
        assert weights[name] * drawn == pytest.approx(config.gradient_ratio * pull, rel=1e-4), name


def test_a_term_without_a_gradient_gets_no_weight(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student = setting.new_student(("face",)).eval()

    weights = balanced_weights(student, student, setting.some_batches(), ["features"], setting.config.student)

    assert weights == {"features": 0.0}


def test_ot_to_labels_is_zero_where_the_student_stands_as_the_labels_do(toy_setting: MakeSetting) -> None:
    # all columns: the farthest anchors are of other levels, where both are equally unlike
    config = toy_setting("pain").config.student.model_copy(update={"k": 8})
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    as_labelled = Forward({}, torch.eye(3)[targets], torch.zeros(8, 4))
    unlike = Forward({}, torch.eye(8), torch.zeros(8, 4))
    nobody = Forward({}, torch.full((8, 3), torch.nan), torch.full((8, 4), torch.nan))

    assert float(TERMS["OT to labels"](as_labelled, nobody, targets, config)) == pytest.approx(0.0, abs=1e-6)
    assert float(TERMS["OT to labels"](unlike, nobody, targets, config)) > 0.01


def test_a_shuffled_teacher_says_the_same_of_others(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    teacher, batch = setting.new_teacher(("face", "eda")).eval(), setting.some_batches()[0]

    seen, shuffled = seen_by(teacher, batch), seen_by(Shuffled(teacher), batch)

    assert not torch.equal(seen.z, shuffled.z)
    assert torch.equal(seen.z.sum(1).sort().values, shuffled.z.sum(1).sort().values)

"""Terms, their teachers and their weights: one rule for all, and controls that know what they should and no more."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from training.data.window_set import Batch, deal_batches
from training.losses.ot import structural_ot
from training.stages.bank import BankOT
from training.stages.crossfit import fold_of_person, unseen
from training.stages.material import Material
from training.stages.methods import METHODS, ROWS, Method, changed
from training.stages.setting import Setting
from training.stages.sources import Lesson, Source, by_fold, cross_fitted, joint_teacher, one_teacher, shuffled
from training.stages.student import train_student
from training.stages.terms import TERMS, Seen, TermSpec, apart, build_terms, term_loss
from training.stages.weights import TASK, gradient_norms, start_norms, term_weights

MakeSetting = Callable[[str], Setting]


def spec_of(setting: Setting) -> TermSpec:
    return TermSpec(setting.config.student, setting.config.task, setting.config.network.dim)


def material_of(teacher: Teacher, source: Source = joint_teacher) -> Material:
    """A teacher and who speaks for it."""
    return Material({}, {}, teacher, source)


def said(z: torch.Tensor) -> Forward:
    """A net that said z (B, D) and nothing else."""
    return Forward({}, z, torch.zeros(len(z), 4))


def test_every_method_names_terms_that_exist_and_every_term_has_a_row() -> None:
    assert {term for method in ROWS.values() for term in method.terms} == set(TERMS)


@pytest.mark.parametrize("task", ["pain", "valence-arousal", "classification"])
def test_balanced_terms_pull_a_set_share_of_what_the_task_pulls(toy_setting: MakeSetting, task: str) -> None:
    setting = toy_setting(task)
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(setting.config.modalities).eval()
    terms, material = build_terms(tuple(TERMS), spec_of(setting), seed=0), material_of(teacher)
    config = setting.config.student

    begun = start_norms(setting, student, terms, material, Method(terms=tuple(TERMS)))
    weights = term_weights(begun, terms, config, ratio=0.3)

    norms = gradient_norms(setting, student, terms, material, list(setting.some_batches()))
    for name in TERMS:
        assert weights[name] * norms[name] == pytest.approx(0.3 * norms[TASK], rel=1e-4), name


def test_an_ablation_pulls_as_much_as_the_paper_does(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(setting.config.modalities).eval()
    material, batches = material_of(teacher), list(setting.some_batches())
    method = Method(terms=("OT",), weighting="as the paper's", change=changed(k=8, normalise=True))
    config = method.change(setting.config.student)
    ablated = build_terms(("OT",), spec_of(setting)._replace(config=config), seed=0)
    paper = build_terms(("OT",), spec_of(setting), seed=0)

    weights = term_weights(start_norms(setting, student, ablated, material, method), ablated, config, ratio=0.3)

    pull = setting.config.student.ot_weight * gradient_norms(setting, student, paper, material, batches)["OT"]
    assert weights["OT"] * gradient_norms(setting, student, ablated, material, batches)["OT"] == pytest.approx(pull)


def test_a_term_without_a_gradient_gets_no_weight(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student = setting.new_student(("face",)).eval()
    terms = build_terms(("features",), spec_of(setting), seed=0)

    itself = material_of(setting.new_teacher(setting.config.modalities), one_teacher(setting, student))
    norms = start_norms(setting, student, terms, itself, METHODS["features"])
    weights = term_weights(norms, terms, setting.config.student, 0.3)

    assert weights == {"features": 0.0}


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        (torch.tensor([2, 0, -1, 2, -1]), [0, 1, 2, 0, 3]),
        (torch.tensor([[0.5, 0.0], [0.5, 0.1], [torch.nan, 0.0], [0.5, 0.0], [torch.nan, 0.0]]), [0, 1, 2, 0, 3]),
    ],
)
def test_samples_of_one_label_are_not_apart_and_one_without_is_apart_from_all(
    toy_setting: MakeSetting, targets: torch.Tensor, groups: list[int]
) -> None:
    student = toy_setting("pain").config.student
    group = torch.tensor(groups)

    by_label = apart(targets, student.model_copy(update={"apart": "label"}))

    assert by_label is not None
    assert torch.equal(by_label, group[:, None] != group[None, :])
    assert apart(targets, student) is None


def test_the_term_adds_its_cost_between_labels_where_the_recipe_says_so(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    targets = torch.tensor([0, 0, 1, 1, 2, 2, -1, -1])
    first, second = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(2))
    together = torch.eye(8, dtype=torch.bool)
    together[[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 5, 4]] = True

    def loss(which: str) -> float:
        config = setting.config.student.model_copy(update={"pair_cost": 0.5, "apart": which})
        return float(TERMS["OT"](spec_of(setting)._replace(config=config))(seen))

    seen = Seen(said(first), said(second), targets, torch.zeros(8))
    expected = structural_ot(first, second, k=4, pair_cost=0.5, apart=~together)
    assert loss("label") == pytest.approx(float(expected))
    assert loss("label") != pytest.approx(loss("sample"), rel=0.01)


def test_ot_to_labels_is_zero_where_the_student_stands_as_the_labels_do(toy_setting: MakeSetting) -> None:
    # all columns: the farthest anchors are of other levels, where both are equally unlike
    setting = toy_setting("pain")
    spec = spec_of(setting)._replace(config=setting.config.student.model_copy(update={"k": 8}))
    term = TERMS["OT to labels"](spec)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    nobody = said(torch.full((8, 3), torch.nan))

    def loss(z: torch.Tensor, known: torch.Tensor = targets) -> float:
        return float(term(Seen(said(z), nobody, known, torch.zeros(8))))

    assert loss(torch.eye(3)[targets]) == pytest.approx(0.0, abs=1e-6)
    assert loss(torch.eye(8)) > 0.01
    assert loss(torch.eye(8), torch.full((8,), -1)) == 0.0


def test_ot_to_labels_has_the_options_of_the_term_whose_control_it_is(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    targets, nobody = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), said(torch.full((8, 3), torch.nan))
    z, turned = torch.eye(3)[targets], torch.randn(8, 3, generator=torch.Generator().manual_seed(3))

    def loss(z: torch.Tensor, **options: object) -> float:
        config = setting.config.student.model_copy(update={"k": 8, **options})
        term = TERMS["OT to labels"](spec_of(setting)._replace(config=config))
        return float(term(Seen(said(z), nobody, targets, torch.zeros(8))))

    assert loss(z + 5, centre="batch") == pytest.approx(loss(z, centre="batch"), abs=1e-5)
    assert abs(loss(z + 5) - loss(z)) > 0.1
    alike = (targets[:, None] == targets[None, :]).float()
    cosines = torch.nn.functional.cosine_similarity(turned[:, None], turned[None, :], dim=2)
    paired = 0.5 * (cosines - cosines.min() - alike).square().sum(1).mean()
    assert loss(turned, pair_cost=100.0) == pytest.approx(float(paired), rel=1e-4)
    narrow = spec_of(setting)._replace(config=setting.config.student.model_copy(update={"projection": 2}))
    assert [tuple(p.shape) for p in TERMS["OT to labels"](narrow).parameters()] == [(2, setting.config.network.dim)]


def test_a_shuffled_teacher_says_the_same_of_others(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    teacher, batch = setting.new_teacher(("face", "eda")).eval(), next(iter(setting.some_batches()))

    joint = setting.seen(teacher, batch)
    seen, mixed = (source(batch, joint).forward for source in (joint_teacher, shuffled))

    assert not torch.equal(seen.z, mixed.z)
    assert torch.equal(seen.z.sum(1).sort().values, mixed.z.sum(1).sort().values)


def test_a_cross_fitted_teacher_never_saw_whom_it_teaches(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    fold = fold_of_person(setting)
    teachers = [setting.new_teacher(("face", "eda")).eval() for _ in range(2)]
    for parameter in teachers[1].parameters():
        torch.nn.init.zeros_(parameter)
    batch = next(iter(setting.some_batches()))

    lesson = cross_fitted(setting, teachers, fold)(batch, setting.seen(teachers[0], batch))

    assert lesson.block is not None
    assert torch.equal(lesson.block, fold[batch.person])
    assert bool((lesson.forward.z[lesson.block == 1] == 0).all())
    assert bool((lesson.forward.z[lesson.block == 0].abs().sum(1) > 0).all())
    for number in range(2):
        own = set(unseen(setting.train, fold, number).person.tolist())
        assert own.isdisjoint(p for p in setting.train.person.tolist() if fold[p] == number)
        assert own | {p for p in setting.train.person.tolist() if fold[p] == number} == set(
            setting.train.person.tolist()
        )


def test_what_several_teachers_said_is_compared_within_each() -> None:
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    seen = Seen(said(z), said(2 * z + 1), torch.zeros(6, dtype=torch.int64), torch.zeros(6))
    block = torch.tensor([0, 0, 0, 0, 1, 1])
    spread = torch.nn.Module()
    spread.forward = lambda s: s.student.z.var(dim=0).sum()  # type: ignore[method-assign, assignment]

    apart = term_loss(spread, seen, block)

    assert float(apart) == pytest.approx(float(4 / 6 * z[:4].var(0).sum() + 2 / 6 * z[4:].var(0).sum()))
    assert float(term_loss(spread, seen, None)) == pytest.approx(float(z.var(0).sum()))


def test_each_window_gets_what_its_own_teacher_said() -> None:
    first, second = said(torch.zeros(4, 2)), said(torch.ones(4, 2))

    chosen = by_fold([first, second], torch.tensor([1, 0, 0, 1]))

    assert chosen.z[:, 0].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_a_bank_holds_the_mean_of_each_class_and_person(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(("face", "eda")).eval()

    bank = BankOT(setting, setting.config.student.model_copy(update={"bank": 100}), student, teacher)

    assert len(bank.teacher_bank) == len(setting.train)  # one clip of each level and person
    everybody = setting.train.batch(torch.arange(len(setting.train)))
    z = setting.seen(teacher, everybody).z
    assert torch.allclose(bank.teacher_bank.sum(0), z.sum(0), atol=1e-4)
    small = BankOT(setting, setting.config.student.model_copy(update={"bank": 7}), student, teacher)
    assert small.student_bank.shape == (7, setting.config.network.dim)


def test_the_banks_student_follows_slowly_while_the_other_learns(toy_setting: MakeSetting) -> None:
    setting = toy_setting("pain")
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(("face", "eda")).eval()
    bank = BankOT(setting, setting.config.student.model_copy(update={"bank": 7}), student, teacher)
    with torch.no_grad():
        student.head.logits.bias += 1.0  # type: ignore[union-attr, operator]

    before = bank.ema.head.logits.bias.clone()  # type: ignore[union-attr, operator]
    bank.follow()

    assert torch.allclose(bank.ema.head.logits.bias - before, torch.full_like(before, 0.01))  # type: ignore[union-attr, operator]


def test_the_banks_student_follows_while_stage_3_trains(toy_setting: MakeSetting) -> None:
    setting = with_one_epoch(toy_setting("classification"))
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities).eval()
    material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, joint_teacher)

    trained = train_student(setting, ("face",), material, ROWS["PKDOT, bank"], "row")

    bank = trained.terms["OT"]
    assert isinstance(bank, BankOT)
    assert isinstance(trained.student, Student)
    nets = new, bank.ema, trained.student
    start, slow, fast = (torch.cat([p.detach().flatten() for p in net.fusion.parameters()]) for net in nets)
    assert 0.0 < float((slow - start).norm()) < 0.1 * float((fast - start).norm())


def test_no_row_looks_at_labels_it_does_not_have(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    blind = replace(setting, train=setting.train.with_labels_of(torch.zeros(len(setting.train), dtype=torch.bool)))
    student, teacher = setting.new_student(("face",)).eval(), setting.new_teacher(setting.config.modalities).eval()
    terms = build_terms(tuple(TERMS), spec_of(setting), seed=0)

    norms = gradient_norms(setting, student, terms, material_of(teacher), list(blind.some_batches()))

    assert {name for name, norm in norms.items() if norm == 0.0} == {TASK, "OT to labels"}


def test_the_joint_teacher_is_asked_once_a_step(toy_setting: MakeSetting) -> None:
    setting = with_one_epoch(toy_setting("pain"))
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities)
    asked: list[torch.nn.Module] = []
    teacher.register_forward_pre_hook(lambda net, _: asked.append(net))
    material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, joint_teacher)
    train_student(setting, ("face",), material, METHODS["PKDOT"], "row")

    steps = len(list(deal_batches(setting.pairs, setting.config.student.batch, np.random.default_rng(0))))
    assert asked == [teacher] * steps


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_a_row_with_another_batch_takes_as_many_steps_and_looks_at_selection_people_as_often(
    toy_setting: MakeSetting, share: float
) -> None:
    setting = toy_setting("pain")
    labelled = torch.arange(len(setting.train)) < share * len(setting.train)
    setting = replace(setting, train=setting.train.with_labels_of(labelled))
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities)
    sizes: dict[str, list[int]] = {name: [] for name in ("PKDOT", "ablation batch=16")}

    def train(name: str) -> int:
        def watch(batch: Batch, joint: Forward) -> Lesson:
            sizes[name].append(len(batch.person))
            return joint_teacher(batch, joint)

        material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, watch)
        return len(train_student(setting, ("face",), material, ROWS[name], name.replace("=", "-")).report.scores)

    epochs = [train(name) for name in sizes]

    assert epochs == [setting.config.student.epochs] * 2
    assert sizes["ablation batch=16"] == [16] * len(sizes["PKDOT"])


def test_where_each_persons_mean_is_taken_off_a_batch_holds_several_windows_of_each(toy_setting: MakeSetting) -> None:
    setting = with_one_epoch(toy_setting("pain"))
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities)
    most: dict[str, list[int]] = {name: [] for name in ("PKDOT balanced", "PKDOT, centred by person")}

    for name, seen in most.items():

        def watch(batch: Batch, joint: Forward, seen: list[int] = seen) -> Lesson:
            seen.append(int(torch.bincount(batch.person).max()))
            return joint_teacher(batch, joint)

        material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, watch)
        train_student(setting, ("face",), material, ROWS[name], name)

    # three steps, and before them the same number of batches in which weights are measured
    assert most["PKDOT balanced"] == [2] * 6
    assert (len(most["PKDOT, centred by person"]), min(most["PKDOT, centred by person"])) == (6, 4)


def test_rows_and_ratios_have_curves_of_their_own(toy_setting: MakeSetting) -> None:
    setting = with_one_epoch(toy_setting("pain"))
    student = setting.config.student.model_copy(update={"gradient_ratios": (0.3, 1.0)})
    points: list[tuple[str, int]] = []
    setting = replace(
        setting,
        config=setting.config.model_copy(update={"student": student}),
        track=lambda name, _, epoch: points.append((name, epoch)),
    )
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities).eval()
    material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, joint_teacher)

    for name in ("KD", "cosine"):
        train_student(setting, ("face",), material, METHODS[name], f"{name}-face")

    curves = [f"{name}-face-{ratio}" for name in ("KD", "cosine") for ratio in ("0.3", "1")]
    assert points == [(f"{curve}/{what}", 0) for curve in curves for what in ("loss", "selection")]


def with_one_epoch(setting: Setting) -> Setting:
    student = setting.config.student.model_copy(update={"epochs": 1})
    return replace(setting, config=setting.config.model_copy(update={"student": student}))

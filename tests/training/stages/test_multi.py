"""MT-PKDOT's choice of a teacher, by batch and by sample, and the rows that make it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.nets.adapters import AlignedTeachers
from models.nets.teacher import Forward
from training.config import RunConfig
from training.data.window_set import Batch
from training.loop.loop import FitReport
from training.losses.ot import similarity, structural_ot
from training.run_folder import RunFolder
from training.stage_config import Choice, StudentConfig
from training.stages.kept import shared_stages, student_stages
from training.stages.material import Material
from training.stages.methods import METHODS, ROWS, VARIATIONS
from training.stages.multi import ORDER, align_teachers, best_of_each, best_of_several
from training.stages.setting import Setting
from training.stages.sources import joint_teacher
from training.stages.student import train_student
from training.stages.terms import Seen, TermSpec, build_terms

MakeSetting = Callable[[str], Setting]
PER_SAMPLE, PUBLISHED = "MT-PKDOT, per sample", "MT-PKDOT, as published"


class Three(torch.nn.Module):
    """Aligned teachers that say the same of every batch."""

    def __init__(self, z: Iterable[Tensor], output: Iterable[Tensor]) -> None:
        super().__init__()
        self.said = {who: Forward({}, *both) for who, *both in zip(ORDER, z, output, strict=True)}

    def forward(self, _: object) -> dict[str, Forward]:
        return self.said


def taught(setting: Setting, fitted: Three, cross_fitted: Three, batch: Batch, choice: Choice) -> Forward:
    """What the chosen teachers say of a batch, where one cross-fitted one has seen nobody."""
    fold = torch.zeros(len(setting.train.people), dtype=torch.int64)
    source = best_of_several(setting, fitted, [cross_fitted], fold, choice)  # type: ignore[arg-type, list-item]
    batch = batch._replace(rows=setting.test.rows[:1].expand(len(batch.targets)))  # of nobody whom they have taught
    lesson = source(batch, fitted.said["joint"])
    assert lesson.block is None  # one space: everybody is compared with everybody
    return lesson.forward


def test_aligned_teachers_see_selection_people_in_batches_and_are_scored_over_all_at_once(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, sizes = toy_setting("valence-arousal"), list[int]()
    forward = AlignedTeachers.forward

    def recorded(net: AlignedTeachers, tensors: Mapping[str, Tensor]) -> dict[str, Forward]:
        if not net.training:
            sizes.append(len(tensors["face"]))
        return forward(net, tensors)

    def scores() -> list[float]:
        teachers = [setting.new_teacher(of) for of in (("face", "voice"), ("face",), ("voice",))]
        return align_teachers(setting, *teachers, setting.pairs, name="aligned")[1].scores

    monkeypatch.setattr(AlignedTeachers, "forward", recorded)
    whole = scores()
    monkeypatch.setattr("training.stages.multi.EVALUATION_BATCH", 3)

    assert scores() == pytest.approx(whole, rel=1e-5)
    assert sizes == [10] * 3 + [3, 3, 3, 1] * 3


def test_of_mt_pkdots_teachers_the_one_with_the_lowest_unseen_loss_teaches(toy_setting: MakeSetting) -> None:
    setting = toy_setting("classification")
    batch = next(iter(setting.some_batches()))
    right = 10.0 * torch.nn.functional.one_hot(batch.targets, 5).float()

    def three(best: str, z: float) -> Three:
        own = [torch.full((len(right), 2), z + i) for i in range(3)]
        return Three(own, [right if who == best else -right for who in ORDER])

    # fitted to these very clips, the joint one looks best; to whoever has not seen them, the privileged one is
    said = partial(taught, setting, three("joint", 5.0), three("privileged", 0.0), choice="batch")

    assert said(batch).z.unique().tolist() == [7.0]
    unlabelled = Batch(batch.tensors, torch.full_like(batch.targets, -1), batch.person, batch.rows)
    assert said(unlabelled).z.unique().tolist() == [5.0]


# squared errors to 0, mean of both values, of (joint, prevalent, privileged):
# sample 0: .01 .04 .09, sample 1: .25 .05 .16, sample 2: .16 .25 .005
ERRORS = [
    torch.tensor([[0.1, 0.1], [0.5, 0.5], [0.4, -0.4]]),
    torch.tensor([[0.2, -0.2], [0.1, 0.3], [0.5, 0.5]]),
    torch.tensor([[0.3, 0.3], [-0.4, 0.4], [0.0, 0.1]]),
]
Z = [
    torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    torch.tensor([[0.0, 1.0], [3.0, 4.0], [0.0, 1.0]]),
    torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [0.0, -2.0]]),
]


def three_samples(targets: Tensor) -> Batch:
    return Batch({}, targets, torch.zeros(3, dtype=torch.int64), torch.arange(3))


def test_each_sample_has_the_teacher_with_its_own_lowest_unseen_loss(toy_setting: MakeSetting) -> None:
    setting, targets = toy_setting("regression"), torch.zeros(3, 2)

    best = best_of_each("regression", ERRORS, targets)
    # of the fitted ones the privileged is right everywhere: that must not count
    said = taught(setting, Three(Z, [*ERRORS[:2], targets]), Three(Z, ERRORS), three_samples(targets), "sample")

    assert best.tolist() == [0, 1, 2]
    assert said.z.tolist() == [[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]]
    assert torch.equal(said.output, torch.stack([ERRORS[0][0], ERRORS[1][1], targets[2]]))


def test_ties_and_samples_without_a_label_have_the_joint_teacher(toy_setting: MakeSetting) -> None:
    setting = toy_setting("regression")
    targets = torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [0.0, 0.0]])
    tied = [torch.tensor([[0.2, 0.2], *own[1:].tolist()]) for own in ERRORS]

    said = taught(setting, Three(Z, ERRORS), Three(Z, tied), three_samples(targets), "sample")
    nobody = taught(setting, Three(Z, ERRORS), Three(Z, ERRORS), three_samples(torch.full((3, 2), torch.nan)), "sample")

    assert said.z.tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, -2.0]]
    assert torch.equal(nobody.z, Z[0])


def test_similarities_are_of_the_chosen_representations_with_each_other(toy_setting: MakeSetting) -> None:
    setting, targets = toy_setting("regression"), torch.zeros(3, 2)
    batch = three_samples(targets)

    said = taught(setting, Three(Z, ERRORS), Three(Z, ERRORS), batch, "sample")

    # (1, 0), (3, 4) and (0, -2): no one teacher has the cosines .6 and -.8
    by_hand = torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, -0.8], [0.0, -0.8, 1.0]])
    torch.testing.assert_close(similarity(said.z), by_hand)
    student = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    spec = TermSpec(setting.config.student.model_copy(update={"k": 3}), "regression", 2)
    term = build_terms(("OT",), spec, seed=0)["OT"]
    loss = term(Seen(Forward({}, student, targets), said, targets, batch.person))
    rows = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
    assert float(loss) == pytest.approx(float(structural_ot(student, rows, k=3, blur=spec.config.blur)))


def test_only_rows_whose_teachers_are_aligned_choose_by_sample() -> None:
    by_sample = {
        name for name, row in ROWS.items() if row.change(StudentConfig(batch=128, k=30)).teacher_choice == "sample"
    }

    assert by_sample == {PER_SAMPLE}
    assert ROWS[PER_SAMPLE].teacher == "multi"
    assert {PER_SAMPLE, PUBLISHED} <= VARIATIONS.keys() - METHODS.keys()


def test_the_published_row_weighs_task_and_transport_as_the_published_run_did(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = toy_setting("pain")
    recipe = setting.config.student.model_copy(update={"tnet_weight": 0.0})
    setting = replace(setting, config=setting.config.model_copy(update={"student": recipe}))
    new, teacher = setting.new_student(("face",)), setting.new_teacher(setting.config.modalities).eval()
    material = Material({"face": new.encoders["face"].state_dict()}, new.tnets.state_dict(), teacher, joint_teacher)
    losses = {}

    def first_step(net: torch.nn.ModuleDict, _: object, step: Callable[..., Tensor], *__: object, **___: object) -> Any:
        batch, student = next(iter(setting.some_batches())), net["student"].eval()
        monkeypatch.setattr(Setting, "augmented", lambda _, batch, __: batch)
        out = setting.seen(student, batch)
        losses["whole"] = float(step(batch, torch.Generator(), 0.5).detach())
        losses["task"] = float(setting.task_loss(out.output, batch.targets))
        losses["OT"] = float(structural_ot(out.z, setting.seen(teacher, batch).z, k=4, blur=0.1))
        return FitReport([0.0], [0.0], 0)

    monkeypatch.setattr("training.stages.student.fit", first_step)
    trained = train_student(setting, ("face",), material, ROWS[PUBLISHED], "row")

    assert losses["OT"] > 1e-3
    assert losses["whole"] == pytest.approx(0.8 * losses["task"] + 0.2 * losses["OT"])
    assert trained.weights == {"OT": 0.2}


def test_both_rows_train_and_only_one_of_them_chooses_by_sample(
    toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = quick(toy_setting("classification"))
    folder = RunFolder(tmp_path / "run")
    folder.begin(setting.config, setting.contents, resume=False)
    encoders, teacher = shared_stages(setting, folder)
    chosen: dict[str, list[list[int]]] = {PER_SAMPLE: [], PUBLISHED: []}

    for row, seen in chosen.items():

        def watch(*arguments: Any, seen: list[list[int]] = seen) -> Tensor:
            best = best_of_each(*arguments)
            seen.append(best.tolist())
            return best

        monkeypatch.setattr("training.stages.multi.best_of_each", watch)
        student_stages(setting, folder, encoders, teacher, ("face",), ROWS[row], row)

    metrics = folder.metrics()
    assert any(len(set(best)) > 1 for best in chosen[PER_SAMPLE])
    assert chosen[PUBLISHED] == []
    assert metrics[PUBLISHED]["weights"] == {"OT": 0.2}
    assert metrics[PER_SAMPLE]["weights"]["OT"] > 0
    first, second = (folder.require(row)["fusion.norm.weight"] for row in chosen)
    assert not torch.equal(first, second)


def quick(setting: Setting) -> Setting:
    """One epoch of everything."""
    stages = {
        name: getattr(setting.config, name).model_copy(update={"epochs": 1})
        for name in ("encoders", "teacher", "tnet", "student")
    }
    config: RunConfig = setting.config.model_copy(update=stages)
    return replace(setting, config=config)

"""Batches, labels, splits, and the loop that goes on after a kill."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.corpora.clip import Clip
from training.corpora.splits import PARTS, SplitError, fold_count, split_clips
from training.data.labels import keep_labels
from training.data.window_set import WindowSet, deal_batches, has_target
from training.errors import TrainingError
from training.loop.loop import Bench, fit
from training.stage_config import LabelsConfig, SplitConfig, StageConfig
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]


def windows_of(person: torch.Tensor, targets: torch.Tensor | None = None) -> WindowSet:
    """Windows of these people that hold nothing."""
    n = len(person)
    targets = torch.zeros(n, dtype=torch.int64) if targets is None else targets
    people = tuple(f"p{i}" for i in range(int(person.max()) + 1))
    return WindowSet({}, torch.arange(n), {}, targets, person, torch.arange(n), torch.zeros(n, 2), people)


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=12), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_an_epoch_deals_no_window_twice_and_leaves_at_most_one_batch_out(
    counts: list[int], size: int, seed: int
) -> None:
    person = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

    dealt = list(deal_batches(windows_of(person), size, np.random.default_rng(seed)))

    together = torch.cat(dealt)
    assert len(together.unique()) == len(together) > len(person) - min(size, len(person))
    assert {len(batch) for batch in dealt} == {min(size, len(person))}


def test_batches_mix_as_many_people_as_they_can() -> None:
    person = torch.repeat_interleave(torch.arange(10), 6)

    batches = list(deal_batches(windows_of(person), 20, np.random.default_rng(0)))

    assert [len(person[batch].unique()) for batch in batches] == [10, 10, 10]


def test_where_a_persons_windows_come_together_nobody_is_alone_and_nothing_is_left_out() -> None:
    person = torch.repeat_interleave(torch.arange(40), 20)

    alone, together = (
        list(deal_batches(windows_of(person), 32, np.random.default_rng(0), each=each)) for each in (1, 4)
    )

    assert [sorted(torch.bincount(person[batch])[person[batch].unique()].tolist()) for batch in together] == [
        [4] * 8
    ] * 25
    assert len(torch.cat(together).unique()) == 800
    assert max(int(torch.bincount(person[batch]).max()) for batch in alone) <= 2


def test_people_with_fewer_windows_than_come_together_are_spread_over_the_epoch() -> None:
    person = torch.repeat_interleave(torch.arange(34), torch.tensor([64, 64] + [1] * 32))

    batches = list(deal_batches(windows_of(person), 32, np.random.default_rng(0), each=4))

    few = [int((person[batch] >= 2).sum()) for batch in batches]
    assert (len(few), sum(few)) == (5, 32)
    assert min(few) >= 2


@pytest.mark.parametrize("labelled", [70, 40])
def test_so_it_is_for_a_number_of_steps_and_where_labels_are_few(labelled: int) -> None:
    person = torch.repeat_interleave(torch.arange(7), 10)
    windows = windows_of(person, torch.where(torch.arange(70) % 10 < labelled / 7, 1, -1))

    batches = list(deal_batches(windows, 16, np.random.default_rng(0), steps=9, each=4))

    assert [len(batch.unique()) for batch in batches] == [16] * 9
    assert max(len(person[batch].unique()) for batch in batches) < 7


def test_no_batch_is_left_to_the_few_people_with_many_windows() -> None:
    person = torch.repeat_interleave(torch.arange(32), torch.tensor([600, 300] + [15] * 30))

    batches = list(deal_batches(windows_of(person), 32, np.random.default_rng(0)))

    assert min(len(person[batch].unique()) for batch in batches) >= 8


@pytest.mark.parametrize(("labelled", "in_each"), [(10, 10), (50, 16), (180, 29)])
def test_where_labels_are_few_half_of_each_batch_has_one(labelled: int, in_each: int) -> None:
    targets = torch.where(torch.arange(200) < labelled, 1, -1)
    windows = windows_of(torch.arange(200) % 10, targets)

    batches = list(deal_batches(windows, 32, np.random.default_rng(0)))

    assert {int((targets[batch] >= 0).sum()) for batch in batches} == {in_each}
    assert {len(batch) for batch in batches} == {32}
    longer = max(labelled // in_each, (200 - labelled) // (32 - in_each))
    assert len(batches) == longer


@given(n=st.integers(2, 60), labelled=st.integers(0, 60), size=st.integers(2, 40), seed=st.integers(0, 99))
def test_no_window_stands_twice_in_a_batch_and_none_is_dealt_twice_as_often_as_its_like(
    n: int, labelled: int, size: int, seed: int
) -> None:
    targets = torch.where(torch.arange(n) < labelled, 1, -1)

    dealt = list(deal_batches(windows_of(torch.arange(n) % 7, targets), size, np.random.default_rng(seed)))

    assert {len(batch.unique()) for batch in dealt} == {min(size, n)}
    times = torch.bincount(torch.cat(dealt), minlength=n)
    for pile in (times[targets >= 0], times[targets < 0]):
        assert not len(pile) or int(pile.max() - pile.min()) <= 1


def test_a_share_of_the_labels_is_a_share_of_each_class() -> None:
    targets = torch.tensor([0] * 40 + [1] * 20 + [2] * 3)

    kept = keep_labels(windows_of(torch.arange(63) % 7, targets), LabelsConfig(fraction=0.1), seed=3)

    left = kept.targets[has_target(kept.targets)]
    assert torch.bincount(left).tolist() == [4, 2, 1]
    assert bool((kept.targets[kept.targets >= 0] == targets[kept.targets >= 0]).all())
    assert len(kept) == 63


def test_a_share_of_the_people_keeps_all_of_their_labels() -> None:
    person = torch.arange(60) % 10

    kept = keep_labels(windows_of(person), LabelsConfig(fraction=0.2, by="person"), seed=3)

    labelled = has_target(kept.targets)
    assert len(person[labelled].unique()) == 2
    assert int(labelled.sum()) == 12


def test_other_seeds_keep_other_labels_and_the_same_seed_the_same() -> None:
    windows = windows_of(torch.arange(60) % 10)

    first, second, other = (keep_labels(windows, LabelsConfig(fraction=0.2), seed=seed).targets for seed in (1, 1, 2))

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "config",
    [SplitConfig(protocol=protocol, folds=3) for protocol in ("subject-kfold", "loso", "clip-kfold", "official")],
)
def test_as_many_people_as_are_said_to_be_needed_suffice(config: SplitConfig) -> None:
    test = [Clip("test", "test", None, split="test")] if config.protocol == "official" else []
    people = [Clip(f"c{i}", f"p{i}", None) for i in range(9)]
    with pytest.raises(SplitError) as raised:
        split_clips(people[:2] + test, config, 0)
    needed = int(str(raised.value).partition("need at least ")[2].split()[0])

    with pytest.raises(SplitError):
        split_clips(people[: needed - 1] + test, config, 0)
    enough = people[:needed] + test
    for fold in range(fold_count(enough, config)):
        assert min(split_clips(enough, config, fold).counts(enough).values()) == 1


@given(people=st.integers(8, 40), seed=st.integers(0, 50), folds=st.integers(2, 5))
def test_nobody_is_in_two_parts_and_everybody_is_tested_once(people: int, seed: int, folds: int) -> None:
    clips = [Clip(f"c{i}", f"p{i // 2}", None) for i in range(2 * people)]
    config = SplitConfig(seed=seed, folds=folds, select=0.15, calibrate=0.15)

    splits = [split_clips(clips, config, fold) for fold in range(folds)]

    for split in splits:
        of = [{clip.subject for clip in clips if clip.id in getattr(split, part)} for part in PARTS]
        assert sum(len(part) for part in of) == people
        assert len(frozenset().union(*of)) == people
    assert all(not a.test & b.test for a, b in pairwise(splits))
    assert frozenset().union(*(split.test for split in splits)) == {clip.id for clip in clips}


def test_leaving_one_person_out_tests_each_alone() -> None:
    clips = [Clip(f"c{i}", f"p{i // 2}", None) for i in range(20)]
    config = SplitConfig(protocol="loso")

    assert fold_count(clips, config) == 10
    assert [len(split_clips(clips, config, fold).test) for fold in range(10)] == [2] * 10


@pytest.mark.parametrize(
    ("protocol", "folds", "said"),
    [
        ("loso", 10, "leave one person out"),
        ("subject-kfold", 5, "5 folds by person"),
        ("clip-kfold", 5, "NOT SUBJECT-INDEPENDENT: 5 folds by clip"),
    ],
)
def test_people_without_a_label_train_in_every_fold_and_are_not_tested(protocol: Any, folds: int, said: str) -> None:
    clips = [Clip(f"c{i}", f"p{i // 2:02d}", None) for i in range(24)]
    config, unlabelled = SplitConfig(protocol=protocol), {"p03", "p11"}
    own, others = {"c6", "c7", "c22", "c23"}, [clip for clip in clips if clip.subject not in unlabelled]

    assert fold_count(clips, config, unlabelled) == folds
    for fold in range(folds):
        split, without = split_clips(clips, config, fold, unlabelled), split_clips(others, config, fold)
        assert split.train == without.train | own
        assert split[1:4] == without[1:4]
        assert split.counts(clips)["train"] == without.counts(clips)["train"] + 2
    assert split.sentence == f"{said}; 10 people, split seed 0; 2 more, without a label, only train"
    assert without.sentence == f"{said}; 10 people, split seed 0"


def test_test_people_of_the_corpus_who_have_no_label_are_in_no_part() -> None:
    clips = [Clip(f"c{i:02d}", f"p{i:02d}", None, split="test" if i < 3 else "train") for i in range(14)]

    split = split_clips(clips, SplitConfig(protocol="official"), 0, {"p00", "p13"})

    assert split.test == {"c01", "c02"}
    assert "c13" in split.train
    assert frozenset().union(*split[:4]) == {f"c{i:02d}" for i in range(1, 14)}
    assert split.sentence == "the corpus's own test split; 12 people, split seed 0; 1 more, without a label, only train"


def test_the_leaky_protocol_says_so() -> None:
    clips = [Clip(f"c{i}", f"p{i // 10}", None) for i in range(40)]

    split = split_clips(clips, SplitConfig(protocol="clip-kfold"), 1)

    assert split.sentence.startswith("NOT SUBJECT-INDEPENDENT")
    assert len({clip.subject for clip in clips if clip.id in split.train}) == 4
    assert len({clip.subject for clip in clips if clip.id in split.test}) > 1


def test_the_corpus_own_test_people_are_the_test_part() -> None:
    clips = [Clip(f"c{i}", f"p{i}", None, split="test" if i < 3 else "train") for i in range(12)]

    assert split_clips(clips, SplitConfig(protocol="official"), 0).test == {"c0", "c1", "c2"}


@pytest.mark.parametrize(
    ("clips", "config", "fold", "complaint"),
    [
        (
            [Clip("a", "p", None, split="train"), Clip("b", "p", None, split="test")],
            SplitConfig(protocol="official"),
            0,
            "p is in the corpus's training split and in its test split",
        ),
        ([Clip("a", "p", None)], SplitConfig(protocol="official"), 0, "no test split of its own"),
        ([Clip(f"c{i}", f"p{i}", None) for i in range(3)], SplitConfig(folds=3), 0, "nobody is left for train"),
        (
            [Clip(f"c{i}", f"p{i}", None) for i in range(2)],
            SplitConfig(protocol="loso"),
            0,
            "2 people with a label .* for train, calibrate; splits.select 0.15, splits.calibrate 0.2 need at least 4$",
        ),
        (
            [Clip(f"c{i}", f"p{i}", None) for i in range(12)],
            SplitConfig(folds=20, select=0.1),
            0,
            "^12 people .* left for the test of every fold; splits.folds 20, splits.select 0.1, splits.calibrate 0.2 "
            "need at least 20$",
        ),
        ([Clip(f"c{i}", f"p{i}", None) for i in range(9)], SplitConfig(folds=3), 3, "fold 3 is not one of the 3 folds"),
    ],
)
def test_a_split_that_cannot_be_is_one_sentence(
    clips: list[Clip], config: SplitConfig, fold: int, complaint: str
) -> None:
    with pytest.raises(SplitError, match=complaint):
        split_clips(clips, config, fold)


@pytest.mark.parametrize(
    ("protocol", "complaint"),
    [
        ("loso", "^nobody has a label: there is nobody to leave"),
        ("official", "^1 people with a label are too few: nobo"),
    ],
)
def test_a_split_without_labels_is_one_sentence(protocol: Any, complaint: str) -> None:
    clips = [Clip("a", "p", None, split="train"), Clip("b", "q", None, split="test")]

    with pytest.raises(SplitError, match=complaint):
        split_clips(clips, SplitConfig(protocol=protocol), 0, {"p", "q"} if protocol == "loso" else {"q"})


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [5, 9])
def test_a_run_killed_anywhere_goes_on_to_the_very_same_weights(
    toy_setting: MakeSetting, tmp_path: Path, stop_at: int
) -> None:
    data, config = toy_setting("pain").train, StageConfig(epochs=4, batch=8)  # 3 steps an epoch

    def run(state: Path, stop: int | None) -> nn.Module:
        torch.manual_seed(3)
        net = nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        steps = iter(range(99))

        def step(batch: object, noise: torch.Generator, _: float) -> torch.Tensor:
            if next(steps) == stop:
                raise StoppedError
            values = batch.tensors["eda"]  # type: ignore[attr-defined]
            noisy = values + 0.1 * torch.randn(values.shape, generator=noise)
            return (net(noisy)[:, 0] - batch.targets).square().mean()  # type: ignore[attr-defined, no-any-return]

        def score() -> float:
            return float(next(net.parameters()).detach().square().sum())

        bench = Bench(seed=1, label="toy", state_file=state, save_every_s=0.0)
        fit(net, net.parameters(), step, score, data, config, bench)
        return net

    whole = run(tmp_path / "whole.state", None)
    with pytest.raises(StoppedError):
        run(tmp_path / "killed.state", stop_at)
    resumed = run(tmp_path / "killed.state", None)

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert not (tmp_path / "killed.state").exists()


def test_a_loss_that_is_not_finite_stops_the_run(toy_setting: MakeSetting) -> None:
    net = nn.Linear(1, 1)

    with pytest.raises(TrainingError, match="toy: the loss became nan"):
        fit(net, net.parameters(), lambda *_: net.weight.sum() * float("nan"), lambda: 0.0,
            toy_setting("pain").train, StageConfig(), Bench(seed=0, label="toy"))  # fmt: skip

"""Batches, splits, and the loop that goes on after a kill."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.config import SplitConfig, StageConfig
from training.corpora.clip import Clip
from training.corpora.splits import SplitError, split_people
from training.data import deal_batches
from training.loop import TrainingError, fit
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=12), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_an_epoch_deals_no_window_twice_and_leaves_at_most_one_batch_out(
    counts: list[int], size: int, seed: int
) -> None:
    person = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

    dealt = list(deal_batches(person, size, np.random.default_rng(seed)))

    together = torch.cat(dealt)
    assert len(together.unique()) == len(together) > len(person) - min(size, len(person))
    assert {len(batch) for batch in dealt} == {min(size, len(person))}


def test_batches_mix_as_many_people_as_they_can() -> None:
    person = torch.repeat_interleave(torch.arange(10), 6)

    batches = list(deal_batches(person, 20, np.random.default_rng(0)))

    assert [len(person[batch].unique()) for batch in batches] == [10, 10, 10]


def test_no_batch_is_left_to_the_few_people_with_many_windows() -> None:
    person = torch.repeat_interleave(torch.arange(32), torch.tensor([600, 300] + [15] * 30))

    batches = list(deal_batches(person, 32, np.random.default_rng(0)))

    assert min(len(person[batch].unique()) for batch in batches) >= 8


@given(people=st.integers(8, 40), seed=st.integers(0, 50))
def test_nobody_is_in_two_parts_and_everybody_is_in_one(people: int, seed: int) -> None:
    clips = [Clip(f"c{i}", f"p{i // 2}", None) for i in range(2 * people)]

    split = split_people(clips, SplitConfig(seed=seed))

    parts = list(split)
    assert sum(len(part) for part in parts) == people
    assert len(frozenset().union(*parts)) == people


def test_the_corpus_own_test_people_are_the_test_part() -> None:
    clips = [Clip(f"c{i}", f"p{i}", None, split="test" if i < 3 else "train") for i in range(12)]

    assert split_people(clips, SplitConfig()).test == {"p0", "p1", "p2"}


def test_a_person_in_both_official_splits_is_an_error() -> None:
    clips = [Clip("a", "p", None, split="train"), Clip("b", "p", None, split="test")]

    with pytest.raises(SplitError, match="p is in the corpus's training split and in its test split"):
        split_people(clips, SplitConfig())


def test_too_few_people_is_an_error_that_names_the_empty_part() -> None:
    with pytest.raises(SplitError, match="nobody is left for train"):
        split_people([Clip(f"c{i}", f"p{i}", None) for i in range(3)], SplitConfig())


class StoppedError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_very_same_weights(toy_setting: MakeSetting, tmp_path: Path) -> None:
    data, config = toy_setting("pain").train, StageConfig(epochs=4, batch=8)

    def run(state: Path, stop_before: int | None) -> nn.Module:
        torch.manual_seed(3)
        net = nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        scores = iter(range(99))

        def score() -> float:
            if next(scores) == stop_before:
                raise StoppedError
            return float(next(net.parameters()).detach().square().sum())

        fit(
            net, net.parameters(), lambda batch, _: (net(batch.tensors["eda"])[:, 0] - batch.targets).square().mean(),
            score, data, config, seed=1, label="toy", state_file=state,
        )  # fmt: skip
        return net

    whole = run(tmp_path / "whole.state", None)
    with pytest.raises(StoppedError):
        run(tmp_path / "killed.state", 2)
    resumed = run(tmp_path / "killed.state", None)

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert not (tmp_path / "killed.state").exists()


def test_a_loss_that_is_not_finite_stops_the_run(toy_setting: MakeSetting) -> None:
    net = nn.Linear(1, 1)

    with pytest.raises(TrainingError, match="toy: the loss became nan"):
        fit(net, net.parameters(), lambda *_: net.weight.sum() * float("nan"), lambda: 0.0,
            toy_setting("pain").train, StageConfig(), seed=0, label="toy")  # fmt: skip

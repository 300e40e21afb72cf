"""Heads: the width and the range of each task's output."""

import copy

import pytest
import torch

from models.nets.errors import WeightsFileError
from models.nets.heads import ValuesHead, build_head, scale_of
from models.spec import Task


@pytest.mark.parametrize(
    ("task", "outputs"), [("pain", 4), ("classification", 7), ("valence-arousal", 2), ("regression", 3)]
)
def test_a_head_has_the_width_that_it_was_given(task: Task, outputs: int) -> None:
    assert build_head(task, dim=16, outputs=outputs)(torch.randn(5, 16)).shape == (5, outputs)


def test_only_valence_and_arousal_are_bounded() -> None:
    loud = 1e4 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))

    assert build_head("valence-arousal", dim=16, outputs=2)(loud).abs().max() <= 1
    assert build_head("regression", dim=16, outputs=2)(loud).abs().max() > 100


def test_pain_classes_and_values_are_linear_in_z() -> None:
    z = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    tasks: tuple[Task, ...] = ("pain", "classification", "regression")
    for task in tasks:
        head = build_head(task, dim=16, outputs=3)

        assert torch.allclose(head(2 * z) - head(z), head(z) - head(0 * z), atol=1e-5)


TARGETS = torch.tensor([[1.0, 100.0, 0.1], [3.0, 300.0, 0.1], [5.0, 500.0, 0.1]])


def test_values_of_any_range_are_standard_deviations_from_the_mean_of_the_targets() -> None:
    head, z = ValuesHead(16, 3), torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    layer = head(z)

    head.standardise(TARGETS)

    spread = (8 / 3) ** 0.5  # of 1, 3, 5; what does not vary keeps its unit
    torch.testing.assert_close(head(z), layer * torch.tensor([spread, 100 * spread, 1.0]) + torch.tensor([3, 300, 0.1]))


def test_a_scale_takes_targets_to_a_mean_of_0_and_a_standard_deviation_of_1() -> None:
    standardised = scale_of(TARGETS).standardised(TARGETS)

    edge = 1.5**0.5
    torch.testing.assert_close(standardised, torch.tensor([[-edge, -edge, 0.0], [0.0, 0.0, 0.0], [edge, edge, 0.0]]))


def test_the_scale_travels_with_the_weights() -> None:
    head, z = ValuesHead(16, 3), torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    head.standardise(TARGETS)
    other = copy.deepcopy(ValuesHead(16, 3))

    other.load_state_dict(head.state_dict())

    assert torch.equal(other(z), head(z))


def test_weights_of_a_head_without_a_scale_are_one_sentence() -> None:
    net = torch.nn.ModuleDict({"head": build_head("regression", dim=16, outputs=3)})
    earlier = torch.nn.ModuleDict({"head": build_head("classification", dim=16, outputs=3)}).state_dict()

    with pytest.raises(WeightsFileError, match=r"of an earlier version: they have no head\.mean and head\.std"):
        net.load_state_dict(earlier)


def test_heads_of_levels_and_classes_hold_a_layer_and_nothing_else() -> None:
    tasks: tuple[Task, ...] = ("pain", "classification")
    for task in tasks:
        assert list(build_head(task, dim=16, outputs=3).state_dict()) == ["logits.weight", "logits.bias"]

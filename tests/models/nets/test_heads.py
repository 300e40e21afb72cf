"""Heads: the width and the range of each task's output."""

import pytest
import torch

from models.nets.heads import build_head
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

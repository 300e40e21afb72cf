"""From the joint representation z (B, D) to a task's output."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.nets.errors import WeightsFileError
from models.spec import Task


class LinearHead(nn.Module):
    """z (B, D) to (B, outputs) without bounds.

    Pain: CORN's conditional logits, one less than levels (Shi, Cao & Raschka, arXiv 2111.08851). Classification: the
    classes' logits.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, outputs)

    def forward(self, z: Tensor) -> Tensor:
        return self.logits(z)  # type: ignore[no-any-return]  # (B, outputs)


class BoundedHead(nn.Module):
    """z (B, D) to values in [-1, 1] (B, outputs): valence and arousal."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.values = nn.Linear(dim, outputs)

    def forward(self, z: Tensor) -> Tensor:
        return self.values(z).tanh()  # type: ignore[no-any-return]  # (B, outputs)


class Scale(NamedTuple):
    """What values of any range are like over the labelled targets of the training fold, float32 (C,) each."""

    mean: Tensor
    std: Tensor

    def standardised(self, values: Tensor) -> Tensor:
        """Outputs or targets (B, C), in their own units, as standard deviations from the mean; NaN stays NaN."""
        return (values - self.mean.to(values.device)) / self.std.to(values.device)


def scale_of(targets: Tensor) -> Scale:
    """Of targets (N, C), all of them there. A value that does not vary, as far as float32 can tell, has a std of 1."""
    values = targets.double()
    mean, std = values.mean(dim=0), values.std(dim=0, correction=0)
    std = torch.where(std > torch.finfo(torch.float32).eps * mean.abs(), std, 1.0)
    return Scale(mean.float(), std.float())


class ValuesHead(nn.Module):
    """z (B, D) to values of any range (B, outputs), in the targets' own units: a regression.

    The layer itself works in standard deviations from the mean of the training targets: with targets in other units
    the same weights say the same. Raises WeightsFileError where it is given weights without `mean` and `std`.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.standardised = nn.Linear(dim, outputs)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))
        self.register_load_state_dict_pre_hook(_require_scale)  # type: ignore[no-untyped-call]

    def standardise(self, targets: Tensor) -> None:
        """Take mean and standard deviation from the training fold's labelled targets (N, outputs)."""
        scale = scale_of(targets)
        self.mean.copy_(scale.mean)
        self.std.copy_(scale.std)

    def forward(self, z: Tensor) -> Tensor:
        return self.standardised(z) * self.std + self.mean  # type: ignore[no-any-return]  # (B, outputs)


def _require_scale(_: nn.Module, state: Mapping[str, Tensor], prefix: str, *__: object) -> None:
    if f"{prefix}mean" not in state:
        raise WeightsFileError(
            f"these weights are of an earlier version: they have no {prefix}mean and {prefix}std, in whose units a "
            "regression is trained now; train again, into another folder"
        )


def build_head(task: Task, *, dim: int, outputs: int) -> nn.Module:
    """The head of `task`; `outputs` is its width: levels - 1 (pain), classes, 2 (valence-arousal), or values."""
    if task == "valence-arousal":
        return BoundedHead(dim, outputs)
    return ValuesHead(dim, outputs) if task == "regression" else LinearHead(dim, outputs)

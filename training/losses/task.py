"""The task losses: CORN for ordered levels, cross-entropy for classes, one minus CCC for values.

Axes: B windows, K levels or classes, C values.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from models.spec import Task
from training.data.window_set import has_target


def corn_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """Conditional ordinal loss of logits (B, K - 1) and levels (B,) int64 (Shi et al., arXiv 2111.08851, eq. 6).

    Task j asks whether y > j and learns only from the windows with y > j - 1.
    """
    thresholds = torch.arange(logits.shape[1], device=logits.device)  # (K-1,)
    asked = levels[:, None] >= thresholds  # (B, K-1): y > j - 1
    answers = (levels[:, None] > thresholds).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return (losses * asked).sum() / asked.sum()


def ccc(values: Tensor, targets: Tensor) -> Tensor:
    """Concordance correlation of each column, (B, C) and (B, C) to (C,) (Lin, 1989); 0 where both are constant."""
    mean_v, mean_t = values.mean(dim=0), targets.mean(dim=0)
    covariance = ((values - mean_v) * (targets - mean_t)).mean(dim=0)
    spread = values.var(dim=0, correction=0) + targets.var(dim=0, correction=0) + (mean_v - mean_t).square()
    return 2 * covariance / spread.clamp(min=1e-12)


def ccc_loss(values: Tensor, targets: Tensor) -> Tensor:
    """1 - the mean CCC over the columns of (B, C), taken over the whole batch."""
    return 1.0 - ccc(values, targets).mean()


LOSSES: Mapping[Task, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "pain": corn_loss,
        "classification": F.cross_entropy,
        "valence-arousal": ccc_loss,
        "regression": ccc_loss,
    }
)


def task_loss(task: Task, output: Tensor, targets: Tensor) -> Tensor:
    """The loss of `task` over those of B windows that have a target; 0 where none has.

    Targets are levels or classes (B,) int64, -1 for none, or values (B, C), NaN for none.
    """
    labelled = has_target(targets)
    if not bool(labelled.any()):
        return 0.0 * output.sum()
    return LOSSES[task](output[labelled], targets[labelled])

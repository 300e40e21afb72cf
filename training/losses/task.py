"""The task losses: CORN for ordered levels, one minus CCC for valence and arousal.

Axes: B windows, K levels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


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
    """1 - the mean CCC over valence and arousal (B, 2), taken over the whole batch."""
    return 1.0 - ccc(values, targets).mean()


def task_loss(output: Tensor, targets: Tensor) -> Tensor:
    """The loss of the task that the targets belong to: levels (B,) int64, or values (B, 2)."""
    return corn_loss(output, targets) if targets.ndim == 1 else ccc_loss(output, targets)

"""Features that somebody has computed already, as vectors or as sequences of them.

Axes: B windows, S steps of a sequence, F features, L steps, D features of ours.
"""

import torch
from torch import Tensor, nn

from models.nets.pooling import PoolSteps
from models.spec import FeatureSpec

LARGEST = 10.0
"""Standardised values are kept within this: a sensor's fault must not outweigh everything else."""


def unit(centre: Tensor, spread: Tensor) -> Tensor:
    """The spread of what varies, and 1 for what does not: both any shape, floats, in whatever unit; the same shape.

    What spreads by less than float32 can tell apart at its own magnitude does not vary.
    """
    varies = (spread > torch.finfo(torch.float32).eps * centre.abs()) & (spread > torch.finfo(torch.float32).tiny)
    return torch.where(varies, spread, 1.0)


class FeatureEncoder(nn.Module):
    """Vectors (B, F) or sequences (B, S, F), float32 with NaN for what is missing, to (B, L, D).

    Centre and spread (F,) are the training fold's statistics: set once with `standardise`, stored with the weights. A
    missing value becomes the centre.
    """

    def __init__(self, spec: FeatureSpec, *, dim: int, steps: int) -> None:
        super().__init__()
        features = spec.shape[-1]
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.body = (
            OverTime(features, spec.shape[0], dim, steps) if len(spec.shape) == 2 else AtOnce(features, dim, steps)
        )
        self.norm = nn.LayerNorm(dim)

    def standardise(self, values: Tensor) -> None:
        """Take centre and spread from the training fold's (B, F) or (B, S, F), without what is missing.

        A feature that does not vary keeps its unit; one that is always missing has centre 0.
        """
        rows = values.flatten(0, -2).double()  # (B or B*S, F); the square of a large float32 is none
        centre = rows.nanmean(dim=0).nan_to_num(0.0)
        spread = (rows - centre).square().nanmean(dim=0).nan_to_num(0.0).sqrt()
        self.centre.copy_(centre)
        self.spread.copy_(unit(centre, spread))

    def forward(self, values: Tensor) -> Tensor:
        x = (values - self.centre) / self.spread
        x = torch.where(x.isnan(), torch.zeros_like(x), x).clamp(-LARGEST, LARGEST)
        return self.norm(self.body(x))  # type: ignore[no-any-return]  # (B, L, D)


class AtOnce(nn.Module):
    """Vectors (B, F) through one hidden layer; the result stands at every step: (B, L, D)."""

    def __init__(self, features: int, dim: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.hidden = nn.Sequential(nn.Linear(features, dim), nn.GELU(), nn.Dropout(0.2), nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(x)[:, None].expand(-1, self.steps, -1)  # type: ignore[no-any-return]


class OverTime(nn.Module):
    """Sequences (B, S, F) through two convolutions over time to (B, L, D)."""

    def __init__(self, features: int, length: int, dim: int, steps: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Conv1d(features, dim, 3, padding=1), nn.GELU(), nn.Dropout(0.2), nn.Conv1d(dim, dim, 3, padding=1)
        )
        self.pool = PoolSteps(length, steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.time(x.transpose(1, 2)).transpose(1, 2))  # type: ignore[no-any-return]

"""Physiology: a 1-D CNN over one modality's channels.

Axes: B windows, C channels, N samples, L steps, D features.
"""

import torch
from torch import Tensor, nn

from models.nets.features import unit
from models.nets.pooling import PoolSteps
from models.spec import SignalSpec


class SignalEncoder(nn.Module):
    """EDA, ECG or EMG (B, C, N) to (B, L, D).

    Centre and spreads (C,) are the training fold's statistics: set once with `standardise`, stored with the weights.
    """

    def __init__(self, spec: SignalSpec, *, window_s: float, dim: int, steps: int, width: int = 32) -> None:
        super().__init__()
        channels = len(spec.channels)
        self.centre: Tensor
        self.spread: Tensor
        self.course_spread: Tensor
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.register_buffer("course_spread", torch.ones(channels))
        # each channel twice: as it is, and without the window's own level. A response of the skin is a small change
        # on a level that differs between people by factors, so each of the two has a spread of its own
        self.course = nn.Sequential(
            nn.Conv1d(2 * channels, width, 9, stride=4, padding=4),
            nn.GELU(),
            nn.Conv1d(width, width, 9, stride=2, padding=4),
            nn.GELU(),
            nn.Conv1d(width, dim, 9, stride=1, padding=4),
            nn.GELU(),
        )
        self.pool = PoolSteps((spec.samples(window_s) + 7) // 8, steps)
        self.norm = nn.LayerNorm(dim)

    def standardise(self, signals: Tensor) -> None:
        """Take centre and spread from the training fold's windows (B, C, N), in whatever unit they are."""
        centre = signals.mean(dim=(0, 2))
        course = signals - signals.mean(dim=2, keepdim=True)
        self.centre.copy_(centre)
        self.spread.copy_(unit(centre, signals.std(dim=(0, 2))))
        self.course_spread.copy_(unit(centre, course.std(dim=(0, 2))))

    def forward(self, signals: Tensor) -> Tensor:
        level = (signals - self.centre[:, None]) / self.spread[:, None]  # (B, C, N)
        course = (signals - signals.mean(dim=2, keepdim=True)) / self.course_spread[:, None]  # (B, C, N)
        x = self.course(torch.cat([level, course], dim=1))  # (B, D, N/8)
        return self.norm(self.pool(x.transpose(1, 2)))  # type: ignore[no-any-return]  # (B, L, D)

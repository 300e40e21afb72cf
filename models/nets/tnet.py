"""T-Net: hallucinates a missing modality's features from those of the modalities that are there.

Aslam et al., FG 2024 (arXiv 2401.15489), sec. III. Its target is what the teacher's encoder gives to the fusion,
standardised with the training fold's statistics. The output is linear: a sigmoid, as in the authors' code, could not
reach features outside [0, 1].
Axes: B windows, L steps, P available modalities, D features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class TNet(nn.Module):
    """{available modality: (B, L, D)} to the missing one's features (B, L, D), by a bottleneck MLP at each step."""

    def __init__(self, available: Sequence[str], *, dim: int) -> None:
        super().__init__()
        self.available = tuple(available)
        inputs = 2 * len(self.available) * dim
        self.bottleneck = nn.Sequential(
            nn.Linear(inputs, dim), nn.GELU(), nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim), nn.GELU()
        )
        self.out = nn.Linear(dim, dim)
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def standardise(self, targets: Tensor) -> None:
        """Take centre and spread (D,) from the teacher's features of the training fold (B, L, D)."""
        self.centre.copy_(targets.mean(dim=(0, 1)))
        self.spread.copy_(targets.std(dim=(0, 1)).clamp(min=1e-4))

    def standardised(self, features: Mapping[str, Tensor]) -> Tensor:
        """The prediction in units of the target's spread (B, L, D); the regression loss compares these."""
        x = torch.cat([features[name] for name in self.available], dim=2)  # (B, L, P*D)
        # the window's mean beside each step: a body answers with a delay, so a step alone does not tell
        x = torch.cat([x, x.mean(dim=1, keepdim=True).expand_as(x)], dim=2)  # (B, L, 2*P*D)
        return self.out(self.bottleneck(x))  # type: ignore[no-any-return]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.standardised(features) * self.spread + self.centre  # (B, L, D)

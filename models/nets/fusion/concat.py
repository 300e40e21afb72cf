"""Fusion by concatenation: the mean over time of each modality, side by side, through one hidden layer."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """{modality: (B, L, D)} to z (B, D)."""

    def __init__(self, modalities: Sequence[str], *, dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.mix = nn.Sequential(
            nn.Linear(len(self.modalities) * dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim)
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = torch.cat([features[name].mean(dim=1) for name in self.modalities], dim=1)  # (B, M*D)
        return self.mix(x)  # type: ignore[no-any-return]  # (B, D)

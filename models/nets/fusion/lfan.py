"""Fusion by leader-follower attention: at each step all modalities attend to each other, and lead to the first one.

Zhang et al., arXiv 2203.13031 (LFAN), sec. 3: multi-head co-attention of the modalities at a step, its values added
and normalised; the leader's own features stand beside the result. Attention runs over the modalities of one step of
one sample; the batch is never an axis of it. With one modality it attends to itself alone, and only values count.
Axes: B windows, M modalities, L steps, D features, H heads, W width of a modality in the co-attention.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LeaderFollowerFusion(nn.Module):
    """{modality: (B, L, D)} to z (B, D); the first modality leads."""

    def __init__(self, modalities: Sequence[str], *, dim: int, heads: int = 2, width: int = 32) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.heads = heads
        count = len(self.modalities)
        self.query_key_value = nn.ModuleDict({name: nn.Linear(dim, 3 * width) for name in self.modalities})
        self.out = nn.Linear(count * width, count * width)
        self.norm = nn.LayerNorm(count * width)
        self.mix = nn.Sequential(nn.Linear(dim + count * width, dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        qkv = torch.stack(
            [self.query_key_value[name](features[name]).unflatten(2, (3, self.heads, -1)) for name in self.modalities],
            dim=4,
        )  # (B, L, 3, H, M, W/H)
        query, key, value = qkv.unbind(dim=2)  # (B, L, H, M, W/H)
        scores = query @ key.transpose(3, 4) / math.sqrt(query.shape[4])  # (B, L, H, M, M)
        mixed = scores.softmax(dim=4) @ value + value  # (B, L, H, M, W/H)
        followers = self.norm(self.out(mixed.transpose(2, 3).flatten(2)))  # (B, L, M*W)
        leader = features[self.modalities[0]]  # (B, L, D)
        return self.mix(torch.cat([leader, followers], dim=2)).mean(dim=1)  # type: ignore[no-any-return]  # (B, D)

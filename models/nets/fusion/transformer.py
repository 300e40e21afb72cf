"""Fusion by a multimodal transformer with a gate: attention over the time steps and modalities of one sample.

The batch is never an axis of the attention, so no answer depends on who shares the batch.
Axes: B windows, M modalities, L steps, D features, H heads.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Self-attention over the steps of one sample (Vaswani et al., arXiv 1706.03762, eq. 1)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, M*L, D/H)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])  # (B, H, M*L, D/H)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, M*L, D)


class Block(nn.Module):
    """Attention and a hidden layer, each on the normalised input and added to it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_hidden = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.hidden = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.hidden(self.norm_hidden(x))  # type: ignore[no-any-return]


class TransformerFusion(nn.Module):
    """{modality: (B, L, D)} to z (B, D): blocks over all tokens, then a gate that weighs the modalities."""

    def __init__(self, modalities: Sequence[str], *, dim: int, steps: int, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.steps = steps
        self.modality = nn.Parameter(0.02 * torch.randn(len(self.modalities), 1, dim))  # (M, 1, D)
        self.position = nn.Parameter(0.02 * torch.randn(1, steps, dim))  # (1, L, D)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = torch.stack([features[name] for name in self.modalities], dim=1)  # (B, M, L, D)
        x = (x + self.modality + self.position).flatten(1, 2)  # (B, M*L, D)
        x = self.norm(self.blocks(x)).unflatten(1, (len(self.modalities), self.steps))  # (B, M, L, D)
        x = x.mean(dim=2)  # (B, M, D)
        return (self.gate(x).softmax(dim=1) * x).sum(dim=1)  # type: ignore[no-any-return]  # (B, D)

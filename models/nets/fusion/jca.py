"""Fusion by joint cross-attention: each modality is attended to by the joint representation of all of them.

Praveen et al., arXiv 2203.14779 and 2209.09068, sec. 3: eqs. of C, H and X_att, for any number of modalities. The
correlation runs over the steps of one sample; the batch is never an axis of it.
Axes: B windows, M modalities, L steps, D features, K hidden.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class JointAttention(nn.Module):
    """One modality X (B, L, D), attended to by the joint representation J (B, L, M*D): (B, L, D).

    C = tanh(Xᵀ W_j J / √(M D)),  H = ReLU(W_x X + W_c Cᵀ),  X_att = W_h H + X.
    """

    def __init__(self, joint: int, steps: int, hidden: int) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(joint)
        self.w_joint = nn.Linear(steps, steps, bias=False)
        self.w_modality = nn.Linear(steps, hidden, bias=False)
        self.w_correlation = nn.Linear(joint, hidden, bias=False)
        self.w_hidden = nn.Linear(hidden, steps, bias=False)

    def forward(self, x: Tensor, joint: Tensor) -> Tensor:
        x_rows = x.transpose(1, 2)  # (B, D, L)
        mixed = self.w_joint(joint.transpose(1, 2)).transpose(1, 2)  # (B, L, M*D)
        correlation = (x_rows @ mixed * self.scale).tanh()  # (B, D, M*D)
        attention = (self.w_modality(x_rows) + self.w_correlation(correlation)).relu()  # (B, D, K)
        return self.w_hidden(attention).transpose(1, 2) + x  # type: ignore[no-any-return]  # (B, L, D)


class JointCrossAttentionFusion(nn.Module):
    """{modality: (B, L, D)} to z (B, D): attended modalities side by side, a hidden layer, the mean over L."""

    def __init__(self, modalities: Sequence[str], *, dim: int, steps: int, hidden: int = 32) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        joint = len(self.modalities) * dim
        self.attention = nn.ModuleDict({name: JointAttention(joint, steps, hidden) for name in self.modalities})
        self.mix = nn.Sequential(nn.Linear(joint, dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        joint = torch.cat([features[name] for name in self.modalities], dim=2)  # (B, L, M*D)
        attended = [self.attention[name](features[name], joint) for name in self.modalities]  # M times (B, L, D)
        return self.mix(torch.cat(attended, dim=2)).mean(dim=1)  # type: ignore[no-any-return]  # (B, D)

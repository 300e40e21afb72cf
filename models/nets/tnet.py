"""T-Net: hallucinates a missing modality's features from those of the modalities that are there.

Aslam et al., FG 2024 (arXiv 2401.15489), sec. III. Its target is what the teacher's encoder gives to the fusion,
standardised with the training fold's statistics. The output is linear: a sigmoid, as in the authors' code, could not
reach features outside [0, 1].
It also predicts how wrong it will be (Nix & Weigend, ICNN 1994; Kendall & Gal, arXiv 1703.04977).
Axes: B windows, L steps, P available modalities, D features, H hidden features.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.nets.fusion.transformer import Block
from models.nets.network import TNetName

LARGEST_LOG = 10.0
"""Bound of the log-variance, so that its exponential stays finite and not 0 in float32."""
WIDTHS: Mapping[TNetName, tuple[int, ...]] = MappingProxyType(
    {"bottleneck": (4, 2, 4), "narrow": (2, 1, 2), "wide": (16, 8, 4, 2, 4, 8, 16)}
)
"""Of the hidden layers at each step, in quarters of D."""


class Hallucination(NamedTuple):
    """What a T-Net says of a window."""

    features: Tensor
    """(B, L, D), as the fusion receives them."""
    log_variance: Tensor
    """(B,): the logarithm of the mean squared standardised error that it expects of this window, over steps and
    features. exp of it is 1 where the window is expected to be as bad as the training mean would be."""


class TNet(nn.Module):
    """{available modality: (B, L, D)} to the missing one's features (B, L, D).

    Three work at each step: `narrow` from D/2 to D/4 and back (PKDOT's: 256, 128, 256 for D = 512), `bottleneck` from D
    to D/2 and back, `wide` from 4D to D/2 and back (MT-PKDOT's, arXiv 2408.09035: 2048, 1024, 512, 256 for D = 512).
    `transformer` sees all steps and modalities.
    """

    def __init__(self, available: Sequence[str], *, dim: int, steps: int, body: TNetName = "bottleneck") -> None:
        super().__init__()
        if body == "transformer":
            self.body: nn.Module = TransformerBody(available, dim=dim, steps=steps)
            width = dim
        else:
            widths = tuple(dim * quarters // 4 for quarters in WIDTHS[body])
            self.body, width = StepBody(available, dim=dim, widths=widths), widths[-1]
        self.out = nn.Linear(width, dim)
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        # random numbers of its own: what is made after it begins with the same weights as without it
        with torch.random.fork_rng(devices=[]):
            self.doubt = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, 1))
        for parameter in self.doubt[2].parameters():
            nn.init.zeros_(parameter)

    def standardise(self, targets: Tensor) -> None:
        """Take centre and spread (D,) from the teacher's features of the training fold (B, L, D)."""
        self.centre.copy_(targets.mean(dim=(0, 1)))
        self.spread.copy_(targets.std(dim=(0, 1)).clamp(min=1e-4))

    def standardised(self, features: Mapping[str, Tensor]) -> Tensor:
        """The prediction in units of the target's spread (B, L, D); the regression loss compares these."""
        return self.out(self.body(features))  # type: ignore[no-any-return]

    def predict(self, features: Mapping[str, Tensor]) -> Hallucination:
        """The prediction, and how wrong it is expected to be.

        The log-variance is computed from a copy of the hidden state that no gradient passes: learning it changes
        nothing of the prediction.
        """
        hidden = self.body(features)  # (B, L, H)
        log_variance = self.doubt(hidden.detach().mean(dim=1))[:, 0]  # (B,)
        return Hallucination(
            self.out(hidden) * self.spread + self.centre, log_variance.clamp(-LARGEST_LOG, LARGEST_LOG)
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.standardised(features) * self.spread + self.centre  # (B, L, D)


class StepBody(nn.Module):
    """{available modality: (B, L, D)} through hidden layers at each step to (B, L, H)."""

    def __init__(self, available: Sequence[str], *, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.available = tuple(available)
        sizes = (2 * len(self.available) * dim, *widths)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = torch.cat([features[name] for name in self.available], dim=2)  # (B, L, P*D)
        # the window's mean beside each step: a body answers with a delay, so a step alone does not tell
        x = torch.cat([x, x.mean(dim=1, keepdim=True).expand_as(x)], dim=2)  # (B, L, 2*P*D)
        return self.layers(x)  # type: ignore[no-any-return]  # (B, L, H)


class TransformerBody(nn.Module):
    """{available modality: (B, L, D)} by attention over steps and modalities of one sample to (B, L, D)."""

    def __init__(self, available: Sequence[str], *, dim: int, steps: int, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.available = tuple(available)
        self.steps = steps
        self.modality = nn.Parameter(0.02 * torch.randn(len(self.available), 1, dim))  # (P, 1, D)
        self.position = nn.Parameter(0.02 * torch.randn(1, steps, dim))  # (1, L, D)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = torch.stack([features[name] for name in self.available], dim=1)  # (B, P, L, D)
        x = (x + self.modality + self.position).flatten(1, 2)  # (B, P*L, D)
        x = self.norm(self.blocks(x)).unflatten(1, (len(self.available), self.steps))  # (B, P, L, D)
        return x.mean(dim=1)  # type: ignore[no-any-return]  # (B, L, D)

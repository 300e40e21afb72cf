"""From the joint representation z (B, D) to a task's output."""

from torch import Tensor, nn

from models.spec import Task


class OrdinalHead(nn.Module):
    """z (B, D) to CORN's conditional logits (B, K - 1) (Shi, Cao & Raschka, arXiv 2111.08851)."""

    def __init__(self, dim: int, levels: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, levels - 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.logits(z)  # type: ignore[no-any-return]  # (B, K-1)


class BoundedHead(nn.Module):
    """z (B, D) to (valence, arousal) in [-1, 1] (B, 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.values = nn.Linear(dim, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.values(z).tanh()  # type: ignore[no-any-return]  # (B, 2)


def build_head(task: Task, *, dim: int, levels: int) -> nn.Module:
    """The head of `task`; `levels` counts pain's levels and is not used for valence-arousal."""
    return OrdinalHead(dim, levels) if task == "pain" else BoundedHead(dim)

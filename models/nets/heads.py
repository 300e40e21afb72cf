"""From the joint representation z (B, D) to a task's output."""

from torch import Tensor, nn

from models.spec import Task


class LinearHead(nn.Module):
    """z (B, D) to (B, outputs) without bounds.

    Pain: CORN's conditional logits, one less than levels (Shi, Cao & Raschka, arXiv 2111.08851). Classification: the
    classes' logits. Regression: the values.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, outputs)

    def forward(self, z: Tensor) -> Tensor:
        return self.logits(z)  # type: ignore[no-any-return]  # (B, outputs)


class BoundedHead(nn.Module):
    """z (B, D) to values in [-1, 1] (B, outputs): valence and arousal."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.values = nn.Linear(dim, outputs)

    def forward(self, z: Tensor) -> Tensor:
        return self.values(z).tanh()  # type: ignore[no-any-return]  # (B, outputs)


def build_head(task: Task, *, dim: int, outputs: int) -> nn.Module:
    """The head of `task`; `outputs` is its width: levels - 1 (pain), classes, 2 (valence-arousal), or values."""
    return BoundedHead(dim, outputs) if task == "valence-arousal" else LinearHead(dim, outputs)

"""Voice: a CNN over the log-mel picture.

Axes: B windows, M mel bands, F columns, L steps, D features.
"""

from torch import Tensor, nn

from models.nets.pooling import PoolSteps
from models.nets.video import convolution
from models.spec import LogMelSpec

MEAN_LOG_POWER, SPREAD_LOG_POWER = -6.0, 4.0
"""Centre and scale of log-mel energies of speech at ordinary levels; fixed, so nothing is fitted to a corpus."""


class VoiceEncoder(nn.Module):
    """Log-mel energies (B, M, F) to (B, L, D)."""

    def __init__(self, spec: LogMelSpec, *, window_s: float, dim: int, steps: int, width: int = 16) -> None:
        super().__init__()
        self.picture = nn.Sequential(
            convolution(1, width, kernel=5, stride=2),  # (B, 16, M/2, F/2)
            convolution(width, 2 * width, kernel=3, stride=2),  # (B, 32, M/4, F/4)
            convolution(2 * width, 4 * width, kernel=3, stride=2),  # (B, 64, M/8, F/8)
        )
        bands = _halved(spec.mels, times=3)
        columns = _halved(spec.steps(window_s), times=3)
        self.project = nn.Linear(4 * width * bands, dim)
        self.pool = PoolSteps(columns, steps)
        self.norm = nn.LayerNorm(dim)

    def forward(self, mel: Tensor) -> Tensor:
        x = ((mel - MEAN_LOG_POWER) / SPREAD_LOG_POWER)[:, None]  # (B, 1, M, F)
        x = self.picture(x)  # (B, C, M/8, F/8)
        x = self.project(x.flatten(1, 2).transpose(1, 2))  # (B, F/8, D)
        return self.norm(self.pool(x))  # type: ignore[no-any-return]  # (B, L, D)


def _halved(length: int, *, times: int) -> int:
    for _ in range(times):
        length = (length + 1) // 2
    return length

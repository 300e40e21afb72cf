"""Face video: a small CNN for each frame, then a convolution over time.

Axes: B windows, T frames, S size in pixels, C channels, L steps, D features.
"""

import math

import torch
from torch import Tensor, nn

from models.nets.pooling import PoolSteps
from models.spec import FaceSpec


def normalise_frames(frames: Tensor) -> Tensor:
    """uint8 (B, T, S, S, 3) to float (B, T, 9, S, S): each frame in [-1, 1], its movement, and the movement's size.

    Movement is the difference from the window's mean. It shows what a face does without the person, which tells more
    of a state than what the face is; its size does not care whether a crease is darker or lighter than the skin. A
    still picture has no movement.
    """
    x = frames.float() / 127.5 - 1.0  # (B, T, S, S, 3)
    movement = 4.0 * (x - x.mean(dim=1, keepdim=True))  # (B, T, S, S, 3)
    # channels stay last in memory: the first convolution is twice as fast on a CPU then
    return torch.cat([x, movement, movement.abs()], dim=4).permute(0, 1, 4, 2, 3)  # (B, T, 9, S, S)


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """Convolution, group normalisation (no statistics over the batch, so no sample sees another), GELU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(8, outputs),
        nn.GELU(),
    )


class FaceEncoder(nn.Module):
    """uint8 crops (B, T, S, S, 3) to (B, L, D)."""

    def __init__(self, spec: FaceSpec, *, dim: int, steps: int, width: int = 16) -> None:
        super().__init__()
        self.frame = nn.Sequential(
            convolution(9, width, kernel=5, stride=4),  # (B*T, 16, S/4, S/4)
            convolution(width, 2 * width, kernel=3, stride=2),  # (B*T, 32, S/8, S/8)
            convolution(2 * width, 4 * width, kernel=3, stride=2),  # (B*T, 64, S/16, S/16)
            nn.Conv2d(4 * width, width, kernel_size=1),  # (B*T, 16, S/16, S/16)
        )
        # no pooling over the picture: crops are aligned, so a place in the crop is a place on the face
        cells = math.ceil(spec.size_px / 16) ** 2
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(width * cells, dim)
        self.time = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.GELU(), nn.Conv1d(dim, dim, 3, padding=1))
        self.pool = PoolSteps(spec.frames, steps)
        self.norm = nn.LayerNorm(dim)

    def forward(self, frames: Tensor) -> Tensor:
        x = normalise_frames(frames)  # (B, T, 9, S, S)
        batch, length = x.shape[:2]
        x = self.frame(x.flatten(0, 1))  # (B*T, 16, S/16, S/16)
        x = self.project(self.drop(x.flatten(1))).unflatten(0, (batch, length))  # (B, T, D)
        x = x + self.time(x.transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        return self.norm(self.pool(x))  # type: ignore[no-any-return]  # (B, L, D)

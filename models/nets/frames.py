"""Face video through a network for pictures: a feature for each frame, then a convolution over time.

Axes: B windows, T frames, S size in pixels, W the backbone's features, L steps, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.pooling import PoolSteps
from models.nets.resnet18 import IMAGENET_MEAN, IMAGENET_STD, WIDTH, ResNet18
from models.nets.weights_file import load_weights_file
from models.spec import FaceSpec


class Pictures(NamedTuple):
    """What a network for pictures was trained on: RGB in [0, 1], standardised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_px: int | None
    """Frames are resized to this; None leaves them as they are."""


class FrameEncoder(nn.Module):
    """uint8 crops (B, T, S, S, 3) to (B, L, D), through a backbone from pictures (N, 3, S, S) to features (N, W)."""

    def __init__(
        self, backbone: Backbone, width: int, pictures: Pictures, spec: FaceSpec, *, dim: int, steps: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.size_px = spec.size_px if pictures.size_px is None else pictures.size_px
        self.preparation = f"{self.size_px}"
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pictures.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(pictures.std)[:, None, None], persistent=False)
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(width, dim)
        self.time = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.GELU(), nn.Conv1d(dim, dim, 3, padding=1))
        self.pool = PoolSteps(spec.frames, steps)
        self.norm = nn.LayerNorm(dim)

    def see(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, S, S, 3) to the backbone's features (B, T, W), which `forward` takes in place of frames."""
        size = frames.shape[2]
        x = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0  # (B*T, 3, S, S)
        if size != self.size_px:
            x = F.interpolate(x, (self.size_px, self.size_px), mode="bilinear", antialias=size > self.size_px)
        return self.backbone((x - self.mean) / self.std).unflatten(0, frames.shape[:2])  # type: ignore[no-any-return]

    def forward(self, frames: Tensor) -> Tensor:
        x = self.see(frames) if frames.dtype == torch.uint8 else frames  # (B, T, W)
        x = self.project(self.drop(x))  # (B, T, D)
        x = x + self.time(x.transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        return self.norm(self.pool(x))  # type: ignore[no-any-return]  # (B, L, D)


def resnet18_encoder(spec: FaceSpec, encoder: EncoderSpec, *, dim: int, steps: int) -> FrameEncoder:
    """ResNet-18 on each frame, as large as it is; WeightsFileError where its weights file cannot be used."""
    net = ResNet18()
    if encoder.weights is not None:
        load_weights_file(net, encoder.weights, made_for="torchvision's resnet18")
    pictures = Pictures(IMAGENET_MEAN, IMAGENET_STD, size_px=None)
    return FrameEncoder(Backbone(net, frozen=encoder.frozen), WIDTH, pictures, spec, dim=dim, steps=steps)

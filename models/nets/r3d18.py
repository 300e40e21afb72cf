"""Face video through R3D-18 (Tran et al., arXiv 1711.11248), under torchvision's weight names (`video.r3d_18`).

Axes: B windows, C channels, T frames, S size in pixels, L steps, D features.
"""

from typing import Final

import torch
from torch import Tensor, nn

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.pooling import PoolSteps
from models.nets.weights_file import load_weights_file
from models.spec import FaceSpec

KINETICS_MEAN: Final = (0.43216, 0.394666, 0.37645)
KINETICS_STD: Final = (0.22803, 0.22145, 0.216989)
"""What torchvision's weights expect: RGB in [0, 1], standardised with these."""
WIDTH: Final = 512


class Block(nn.Module):
    """Two 3 x 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        last = nn.BatchNorm3d(outputs)
        nn.init.zeros_(last.weight)  # as in ResNet18: without a weights file every block begins as its shortcut
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU()
        )
        self.conv2 = nn.Sequential(nn.Conv3d(outputs, outputs, 3, 1, padding=1, bias=False), last)
        self.downsample = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
            if stride != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.downsample(x)).relu()  # type: ignore[no-any-return]


class R3D18(nn.Module):
    """Clips (B, 3, T, S, S) to features at each eighth frame (B, T/8, 512), rounded up; without the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), padding=(1, 3, 3), bias=False), nn.BatchNorm3d(64), nn.ReLU()
        )
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, WIDTH, 2), Block(WIDTH, WIDTH, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips: Tensor) -> Tensor:
        x = self.layer1(self.stem(clips))  # (B, 64, T, S/2, S/2)
        x = self.layer4(self.layer3(self.layer2(x)))  # (B, 512, T/8, S/16, S/16)
        return x.mean(dim=(3, 4)).transpose(1, 2)  # type: ignore[no-any-return]  # (B, T/8, 512)


class ClipEncoder(nn.Module):
    """uint8 crops (B, T, S, S, 3) to (B, L, D). WeightsFileError where the weights file cannot be used."""

    def __init__(self, spec: FaceSpec, encoder: EncoderSpec, *, dim: int, steps: int) -> None:
        super().__init__()
        net = R3D18()
        if encoder.weights is not None:
            load_weights_file(net, encoder.weights, made_for="torchvision's r3d_18")
        self.backbone = Backbone(net, frozen=encoder.frozen)
        self.preparation = f"{spec.size_px}"
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(KINETICS_MEAN)[:, None, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(KINETICS_STD)[:, None, None, None], persistent=False)
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(WIDTH, dim)
        self.pool = PoolSteps((spec.frames + 7) // 8, steps)
        self.norm = nn.LayerNorm(dim)

    def see(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, S, S, 3) to the backbone's features (B, T/8, 512), which `forward` takes in place of frames."""
        x = frames.permute(0, 4, 1, 2, 3).float() / 255.0  # (B, 3, T, S, S)
        return self.backbone((x - self.mean) / self.std)  # type: ignore[no-any-return]

    def forward(self, frames: Tensor) -> Tensor:
        x = self.see(frames) if frames.dtype == torch.uint8 else frames  # (B, T/8, 512)
        return self.norm(self.pool(self.project(self.drop(x))))  # type: ignore[no-any-return]  # (B, L, D)

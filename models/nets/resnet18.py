"""ResNet-18 (He et al., arXiv 1512.03385) under torchvision's weight names, so that its weights files load as they are.

Axes: N pictures, C channels, H and W pixels.
"""

from typing import Final

from torch import Tensor, nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""What torchvision's weights expect: RGB in [0, 1], standardised with these."""
WIDTH: Final = 512
STRIDE: Final = 32
"""Pixels of a cell of the last maps."""


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        # without a weights file every block begins as its shortcut (Goyal et al., arXiv 1706.02677, sec. 5.1): batch
        # statistics, which keep the sums in bounds elsewhere, are not used here
        nn.init.zeros_(self.bn2.weight)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()  # type: ignore[no-any-return]


class ResNet18(nn.Module):
    """Pictures (N, C, H, W) to features (N, 512), without the classifier."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, WIDTH, 2), Block(WIDTH, WIDTH, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the last convolution's maps (N, 512, H/32, W/32), sizes rounded up."""
        x = self.bn1(self.conv1(x)).relu()  # (N, 64, H/2, W/2)
        x = nn.functional.max_pool2d(x, 3, 2, padding=1)  # (N, 64, H/4, W/4)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean(dim=(2, 3))  # (N, 512)

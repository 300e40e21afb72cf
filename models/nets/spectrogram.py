"""Physiology as a picture: log power over frequency and time, through a ResNet-18.

Axes: B windows, C channels, N samples, n samples of a frame, K frequencies, M frames, L steps, D features.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.features import unit
from models.nets.resnet18 import STRIDE, WIDTH, ResNet18
from models.nets.weights_file import load_weights_file
from models.spec import SignalSpec

ROWS: Final = 64
"""Height of the picture that the ResNet sees, in pixels."""
POWER_FLOOR: Final = 1e-6
"""Of a signal with unit variance."""


class LogPower(nn.Module):
    """Signals (B, C, N) to ln of the short-time Fourier transform's power (B, C, K, M).

    A frame is one second at the signal's rate, at least 16 samples and at most half of the window, under a Hann
    window; frames begin a sixteenth of a frame apart. White noise of variance 1 has power 1 in the mean. The transform
    is a convolution with fixed weights, so that it exports to ONNX.
    """

    def __init__(self, *, samples: int, rate_hz: float) -> None:
        super().__init__()
        frame = min(max(16, round(rate_hz)), (samples + 1) // 2)
        self.hop = max(1, frame // 16)
        self.bins = frame // 2 + 1
        window = torch.hann_window(frame, dtype=torch.float64)
        phase = 2 * torch.pi * torch.arange(self.bins)[:, None] * torch.arange(frame, dtype=torch.float64) / frame
        waves = torch.cat([phase.cos(), phase.sin()]) * window / window.square().sum().sqrt()  # (2K, n)
        self.waves: Tensor
        self.register_buffer("waves", waves[:, None].float(), persistent=False)

    def forward(self, signals: Tensor) -> Tensor:
        with torch.autocast(signals.device.type, enabled=False):  # bfloat16 hides what is weak beside what is strong
            parts = F.conv1d(signals.flatten(0, 1)[:, None], self.waves, stride=self.hop)  # (B*C, 2K, M)
        power = parts[:, : self.bins].square() + parts[:, self.bins :].square()  # (B*C, K, M)
        log_power = power.clamp(min=POWER_FLOOR).log()  # (B*C, K, M)
        return log_power.unflatten(0, signals.shape[:2])  # type: ignore[no-any-return, no-untyped-call]  # (B, C, K, M)


class SpectrogramEncoder(nn.Module):
    """EDA, ECG or EMG (B, C, N) to (B, L, D). WeightsFileError where the weights file cannot be used.

    Centres and spreads of the channels (C,) and of the picture's rows (C, K, 1) are the training fold's statistics:
    set once with `standardise`, stored with the weights.
    """

    def __init__(self, spec: SignalSpec, encoder: EncoderSpec, *, window_s: float, dim: int, steps: int) -> None:
        super().__init__()
        channels = len(spec.channels)
        self.log_power = LogPower(samples=spec.samples(window_s), rate_hz=spec.rate_hz)
        self.centre: Tensor
        self.spread: Tensor
        self.row_centre: Tensor
        self.row_spread: Tensor
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.register_buffer("row_centre", torch.zeros(channels, self.log_power.bins, 1))
        self.register_buffer("row_spread", torch.ones(channels, self.log_power.bins, 1))
        net = ResNet18(channels)
        if encoder.weights is not None:
            net.load_state_dict(colourless(encoder, channels))
        self.backbone = Backbone(MapRow(net), frozen=encoder.frozen)
        # the last maps have one column for each step
        self.size = (ROWS, STRIDE * steps)
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(WIDTH, dim)
        self.norm = nn.LayerNorm(dim)

    def standardise(self, signals: Tensor) -> None:
        """Take all statistics from the training fold's windows (B, C, N), in whatever unit they are."""
        centre = signals.mean(dim=(0, 2))
        self.centre.copy_(centre)
        self.spread.copy_(unit(centre, signals.std(dim=(0, 2))))
        sums, squares, count = torch.zeros_like(self.row_centre), torch.zeros_like(self.row_centre), 0
        for part in torch.split(signals, 64):
            rows = self._rows(part.to(self.centre.device))  # (64, C, K, M)
            sums += rows.sum(dim=(0, 3))[..., None]
            squares += rows.square().sum(dim=(0, 3))[..., None]
            count += len(rows) * rows.shape[3]
        mean = sums / count
        self.row_centre.copy_(mean)
        self.row_spread.copy_((squares / count - mean.square()).clamp(min=1e-6).sqrt())

    def _rows(self, signals: Tensor) -> Tensor:
        return self.log_power((signals - self.centre[:, None]) / self.spread[:, None])  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        picture = (self._rows(signals) - self.row_centre) / self.row_spread  # (B, C, K, M)
        picture = F.interpolate(picture, self.size, mode="bilinear", antialias=True)  # (B, C, 64, 32*L)
        x = self.backbone(picture)  # (B, L, 512)
        return self.norm(self.project(self.drop(x)))  # type: ignore[no-any-return]  # (B, L, D)


class MapRow(nn.Module):
    """A ResNet's last maps, averaged over frequency: (B, C, H, W) to (B, W/32, 512)."""

    def __init__(self, net: ResNet18) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> Tensor:
        return self.net.maps(picture).mean(dim=2).transpose(1, 2)


def colourless(encoder: EncoderSpec, channels: int) -> dict[str, Tensor]:
    """Weights for pictures of `channels` from a file for colours.

    Each channel gets the mean over the colours, scaled so that a picture that is the same in all channels gives what
    the file's network gives for it in grey: its later layers expect values of that size.
    """
    assert encoder.weights is not None  # the caller saw to it
    colours = ResNet18()
    load_weights_file(colours, encoder.weights, made_for="torchvision's resnet18")
    state = colours.state_dict()
    first = state["conv1.weight"]  # (64, 3, 7, 7)
    state["conv1.weight"] = (first.sum(dim=1, keepdim=True) / channels).repeat(1, channels, 1, 1)  # (64, C, 7, 7)
    return state

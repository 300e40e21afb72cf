"""Hugging Face's audio models that begin with a log-mel spectrogram.

Its bands, rate and step must be those of the input: `audio-spectrogram-transformer` (AST; Gong et al., arXiv
2104.01778) and `whisper` (Radford et al., arXiv 2212.04356).
Axes: B windows, M mel bands, F columns, P positions in time, W the model's features.
"""

import math
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.errors import HuggingFaceError
from models.spec import LogMelSpec

AST: Final = "audio-spectrogram-transformer"
WHISPER: Final = "whisper"
TYPES: Final = (AST, WHISPER)


class AudioSpectrogramTransformer(nn.Module):
    """(B, M, F) to the patches of each time, averaged over frequency: (B, P, W).

    As its feature extractor does: zeros where the sound has ended, then (x - mean) / (2 std).
    """

    def __init__(self, net: nn.Module, columns: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        config: Any = net.config
        self.width: int = config.hidden_size
        self.mean, self.std = 0.0, 0.5
        if settings.get("do_normalize", True):
            self.mean, self.std = float(settings.get("mean", -4.2677393)), float(settings.get("std", 4.5689974))
        self.padding = config.max_length - columns
        patch = config.patch_size
        self.rows = (config.num_mel_bins - patch) // config.frequency_stride + 1
        longest = (config.max_length - patch) // config.time_stride + 1
        self.positions = min(longest, math.ceil(columns / config.time_stride))

    def forward(self, mel: Tensor) -> Tensor:
        x = (F.pad(mel.transpose(1, 2), (0, 0, 0, self.padding)) - self.mean) / (2 * self.std)  # (B, longest, M)
        x = self.net(input_values=x).last_hidden_state[:, 2:]  # without the two class tokens
        return x.unflatten(1, (self.rows, -1)).mean(dim=1)[:, : self.positions]  # type: ignore[no-any-return]


class WhisperEncoder(nn.Module):
    """(B, M, F) to the encoder's output where there is sound (B, P, W), P = F/2 rounded up.

    As its feature extractor does: log10 of power, silence of 1e-10 up to the model's length, nothing more than 8 under
    the window's maximum, then (x + 4) / 4.
    """

    def __init__(self, net: nn.Module, columns: int) -> None:
        super().__init__()
        whole: Any = net
        self.net = whole.get_encoder()
        self.width: int = whole.config.d_model
        self.padding = 2 * whole.config.max_source_positions - columns
        self.positions = (columns + 1) // 2

    def forward(self, mel: Tensor) -> Tensor:
        x = F.pad(mel / math.log(10.0), (0, self.padding), value=-10.0)  # (B, M, longest)
        x = x.maximum(x.amax(dim=(1, 2), keepdim=True) - 8.0)
        x = self.net(input_features=(x + 4.0) / 4.0).last_hidden_state  # (B, longest/2, W)
        return x[:, : self.positions]  # type: ignore[no-any-return]  # (B, P, W)


def log_mel_front(
    model: str, net: nn.Module, settings: dict[str, Any], spec: LogMelSpec, window_s: float
) -> AudioSpectrogramTransformer | WhisperEncoder:
    """A model of one of `TYPES` on the input's windows; HuggingFaceError where its spectrogram is not the input's."""
    config: Any = net.config
    columns = spec.steps(window_s)
    if config.model_type == AST:
        longest, hop = config.max_length, settings.get("sampling_rate", 16000) // 100
    else:
        longest, hop = 2 * config.max_source_positions, settings.get("hop_length", 160)
    _require_same(model, spec, config.num_mel_bins, settings, hop)
    if columns > longest:
        raise HuggingFaceError(f"{model} hears {longest} columns at most; a window has {columns}: shorten it")
    if config.model_type == AST:
        return AudioSpectrogramTransformer(net, columns, settings)
    return WhisperEncoder(net, columns)


def _require_same(model: str, spec: LogMelSpec, bands: int, settings: dict[str, Any], hop: int) -> None:
    """HuggingFaceError unless the model's spectrogram has the input's bands, rate and step; `hop` is in samples."""
    rate = int(settings.get("sampling_rate", 16000))
    if (bands, rate) != (spec.mels, spec.sample_rate_hz):
        raise HuggingFaceError(
            f"{model} takes {bands} mel bands of sound at {rate} Hz; inputs.voice has mels {spec.mels} and "
            f"sample_rate_hz {spec.sample_rate_hz}: set them to the model's"
        )
    if not math.isclose(hop / rate, spec.step_s, rel_tol=1e-3):
        raise HuggingFaceError(f"{model} has a column each {hop / rate:g} s; set inputs.voice.step_s to it")

"""Audio encoders of Hugging Face, on the log-mel energies that a service has.

A recording reaches the networks as log-mel energies, never as a waveform. So only models that begin with a log-mel
spectrogram can be used, and their bands, rate and step must be those of the input: `audio-spectrogram-transformer`
(AST; Gong et al., arXiv 2104.01778) and `whisper` (Radford et al., arXiv 2212.04356).
Axes: B windows, M mel bands, F columns, P positions in time, W the model's features, L steps, D features.
"""

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.errors import HuggingFaceError
from models.nets.huggingface import load_model, processor_settings
from models.nets.pooling import PoolSteps
from models.spec import VoiceSpec

SUPPORTED = "audio-spectrogram-transformer and whisper"


class HuggingFaceVoiceEncoder(nn.Module):
    """Log-mel energies (B, M, F) to (B, L, D), through a backbone from them to (B, P, W)."""

    def __init__(self, backbone: Backbone, width: int, positions: int, *, dim: int, steps: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(width, dim)
        self.pool = PoolSteps(positions, steps)
        self.norm = nn.LayerNorm(dim)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.project(self.drop(self.backbone(mel)))  # (B, P, D)
        return self.norm(self.pool(x))  # type: ignore[no-any-return]  # (B, L, D)


def huggingface_voice_encoder(
    spec: VoiceSpec, encoder: EncoderSpec, *, window_s: float, dim: int, steps: int
) -> HuggingFaceVoiceEncoder:
    """AST or Whisper's encoder; HuggingFaceError for others, and where its spectrogram is not the input's."""
    assert encoder.model is not None  # EncoderSpec saw to it
    net, _ = load_model(encoder.model)
    config: Any = net.config
    columns = spec.steps(window_s)
    if config.model_type == "audio-spectrogram-transformer":
        settings, longest = processor_settings(encoder.model, "feature_extractor"), config.max_length
        _require_same(encoder.model, spec, config.num_mel_bins, settings, settings.get("sampling_rate", 16000) // 100)
        front: AudioSpectrogramTransformer | WhisperEncoder = AudioSpectrogramTransformer(net, columns, settings)
        width = config.hidden_size
    elif config.model_type == "whisper":
        settings, longest = processor_settings(encoder.model, "feature_extractor"), 2 * config.max_source_positions
        _require_same(encoder.model, spec, config.num_mel_bins, settings, settings.get("hop_length", 160))
        front, width = WhisperEncoder(net, columns), config.d_model
    else:
        raise HuggingFaceError(
            f"{encoder.model} is of type {config.model_type}; supported are {SUPPORTED}, because a voice comes as "
            "log-mel energies, and a model of waveforms cannot hear those"
        )
    if columns > longest:
        raise HuggingFaceError(f"{encoder.model} hears {longest} columns at most; a window has {columns}: shorten it")
    return HuggingFaceVoiceEncoder(Backbone(front, frozen=encoder.frozen), width, front.positions, dim=dim, steps=steps)


class AudioSpectrogramTransformer(nn.Module):
    """(B, M, F) to the patches of each time, averaged over frequency: (B, P, W).

    As its feature extractor does: zeros where the sound has ended, then (x - mean) / (2 std).
    """

    def __init__(self, net: nn.Module, columns: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        config: Any = net.config
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
        self.padding = 2 * whole.config.max_source_positions - columns
        self.positions = (columns + 1) // 2

    def forward(self, mel: Tensor) -> Tensor:
        x = F.pad(mel / math.log(10.0), (0, self.padding), value=-10.0)  # (B, M, longest)
        x = x.maximum(x.amax(dim=(1, 2), keepdim=True) - 8.0)
        x = self.net(input_features=(x + 4.0) / 4.0).last_hidden_state  # (B, longest/2, W)
        return x[:, : self.positions]  # type: ignore[no-any-return]  # (B, P, W)


def _require_same(model: str, spec: VoiceSpec, bands: int, settings: dict[str, Any], hop: int) -> None:
    """HuggingFaceError unless the model's spectrogram has the input's bands, rate and step; `hop` is in samples."""
    rate = int(settings.get("sampling_rate", 16000))
    if (bands, rate) != (spec.mels, spec.sample_rate_hz):
        raise HuggingFaceError(
            f"{model} takes {bands} mel bands of sound at {rate} Hz; inputs.voice has mels {spec.mels} and "
            f"sample_rate_hz {spec.sample_rate_hz}: set them to the model's"
        )
    if not math.isclose(hop / rate, spec.step_s, rel_tol=1e-3):
        raise HuggingFaceError(f"{model} has a column each {hop / rate:g} s; set inputs.voice.step_s to it")

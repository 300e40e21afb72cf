"""Audio encoders of Hugging Face, on a voice's log-mel energies or on its waveform, as the model wants it.

Axes: B windows, P positions in time, W the model's features, L steps, D features.
"""

from typing import Any

from torch import Tensor, nn

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.errors import HuggingFaceError
from models.nets.huggingface import load_model, processor_settings
from models.nets.huggingface_log_mel import TYPES, AudioSpectrogramTransformer, WhisperEncoder, log_mel_front
from models.nets.huggingface_waveform import WaveformFront, waveform_front
from models.nets.pooling import PoolSteps
from models.spec import LogMelSpec, VoiceSpec


class HuggingFaceVoiceEncoder(nn.Module):
    """Windows, log-mel energies (B, M, F) or waveforms (B, N), to (B, L, D), through a backbone to (B, P, W).

    `preparation` says what the backbone does to windows before its weights meet them.
    """

    def __init__(
        self, backbone: Backbone, width: int, positions: int, *, preparation: str, dim: int, steps: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.preparation = preparation
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(width, dim)
        self.pool = PoolSteps(positions, steps)
        self.norm = nn.LayerNorm(dim)

    def see(self, windows: Tensor) -> Tensor:
        """Windows to the backbone's features (B, 1, P, W), which `forward` takes in their place: none has four axes."""
        return self.backbone(windows)[:, None]  # type: ignore[no-any-return]

    def forward(self, windows: Tensor) -> Tensor:
        seen = windows if windows.dim() == 4 else self.see(windows)  # (B, 1, P, W)
        x = self.project(self.drop(seen[:, 0]))  # (B, P, D)
        return self.norm(self.pool(x))  # type: ignore[no-any-return]  # (B, L, D)


def huggingface_voice_encoder(
    spec: VoiceSpec, encoder: EncoderSpec, *, window_s: float, dim: int, steps: int
) -> HuggingFaceVoiceEncoder:
    """AST or Whisper's encoder on log-mel energies, or a model of waveforms on those.

    Raises HuggingFaceError for another model than `spec` is for, and where what it hears is not the input.
    """
    assert encoder.model is not None  # EncoderSpec saw to it
    net, _ = load_model(encoder.model)
    _require_form(encoder.model, net, spec)
    settings = processor_settings(encoder.model, "feature_extractor")
    front: AudioSpectrogramTransformer | WhisperEncoder | WaveformFront
    if isinstance(spec, LogMelSpec):
        front = log_mel_front(encoder.model, net, settings, spec, window_s)
    else:
        front = waveform_front(encoder.model, net, settings, spec, window_s)
    return HuggingFaceVoiceEncoder(
        Backbone(front, frozen=encoder.frozen),
        front.width,
        front.positions,
        preparation=repr(sorted(settings.items())),
        dim=dim,
        steps=steps,
    )


def _require_form(model: str, net: Any, spec: VoiceSpec) -> None:
    """HuggingFaceError unless the model hears what `spec` feeds; the message says what to set."""
    kind = net.config.model_type
    hears_waveform = kind not in TYPES and net.main_input_name == "input_values"
    if kind not in TYPES and not hears_waveform:
        raise HuggingFaceError(
            f"{model} is of type {kind}; supported are {' and '.join(TYPES)}, and with inputs.voice.form: waveform "
            "models that take `input_values`, such as wav2vec2, hubert and wavlm"
        )
    if hears_waveform and isinstance(spec, LogMelSpec):
        raise HuggingFaceError(
            f"{model} is of type {kind}; supported are {' and '.join(TYPES)} where a voice comes as log-mel energies: "
            "for a model of waveforms set inputs.voice to {form: waveform}"
        )
    if not hears_waveform and not isinstance(spec, LogMelSpec):
        raise HuggingFaceError(
            f"{model} is of type {kind}, which takes log-mel energies and no waveform: set inputs.voice.form to log-mel"
        )

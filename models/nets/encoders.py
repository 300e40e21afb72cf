"""One encoder for each modality, chosen by its name in the input specification."""

from torch import nn

from models.nets.physio import SignalEncoder
from models.nets.video import FaceEncoder
from models.nets.voice import VoiceEncoder
from models.spec import FACE, VOICE, InputSpec


def build_encoder(modality: str, spec: InputSpec, *, dim: int, steps: int) -> nn.Module:
    """The encoder of `modality`: a window's tensor to (B, steps, dim). KeyError if the specification has none."""
    if modality == FACE and spec.face is not None:
        return FaceEncoder(spec.face, dim=dim, steps=steps)
    if modality == VOICE and spec.voice is not None:
        return VoiceEncoder(spec.voice, window_s=spec.window_s, dim=dim, steps=steps)
    return SignalEncoder(spec.signals[modality], window_s=spec.window_s, dim=dim, steps=steps)

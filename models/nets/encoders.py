"""One encoder for each modality, chosen by its name in the settings."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from models.nets.encoder_spec import EncoderSpec, encoders_of
from models.nets.features import FeatureEncoder
from models.nets.frames import resnet18_encoder
from models.nets.huggingface import huggingface_face_encoder
from models.nets.huggingface_voice import huggingface_voice_encoder
from models.nets.physio import SignalEncoder
from models.nets.r3d18 import ClipEncoder
from models.nets.spectrogram import SpectrogramEncoder
from models.nets.video import FaceEncoder
from models.nets.voice import VoiceEncoder
from models.spec import FACE, VOICE, InputSpec, LogMelSpec


class EncoderError(ValueError):
    """A modality cannot have this encoder; the message names both."""


@runtime_checkable
class Standardising(Protocol):
    """An encoder that holds statistics of the training fold: it is told them once, before it is trained."""

    def standardise(self, values: Tensor) -> None:
        """Take the statistics from the training fold's windows, as they are fed: (N, ...)."""


def build_encoder(modality: str, inputs: InputSpec, encoder: EncoderSpec, *, dim: int, steps: int) -> nn.Module:
    """The encoder of `modality`: a window's tensor to (B, steps, dim).

    Raises KeyError if `inputs` does not describe the modality, EncoderError if the encoder is for others,
    WeightsFileError and HuggingFaceError where its weights cannot be used.
    """
    possible = encoders_of(modality, inputs)
    if encoder.name not in possible:
        raise EncoderError(f"encoders: {modality} cannot have {encoder.name!r}, only {', '.join(possible)}")
    if modality in inputs.features:
        return FeatureEncoder(inputs.features[modality], dim=dim, steps=steps)
    if modality == FACE and inputs.face is not None:
        if encoder.name == "resnet18":
            return resnet18_encoder(inputs.face, encoder, dim=dim, steps=steps)
        if encoder.name == "r3d18":
            return ClipEncoder(inputs.face, encoder, dim=dim, steps=steps)
        if encoder.name == "huggingface":
            return huggingface_face_encoder(inputs.face, encoder, dim=dim, steps=steps)
        return FaceEncoder(inputs.face, dim=dim, steps=steps)
    if modality == VOICE and inputs.voice is not None:
        if encoder.name == "huggingface":
            return huggingface_voice_encoder(inputs.voice, encoder, window_s=inputs.window_s, dim=dim, steps=steps)
        assert isinstance(inputs.voice, LogMelSpec)  # what is possible was looked up
        return VoiceEncoder(inputs.voice, window_s=inputs.window_s, dim=dim, steps=steps)
    signal = inputs.signals[modality]
    if encoder.name == "spectrogram":
        return SpectrogramEncoder(signal, encoder, window_s=inputs.window_s, dim=dim, steps=steps)
    return SignalEncoder(signal, window_s=inputs.window_s, dim=dim, steps=steps)

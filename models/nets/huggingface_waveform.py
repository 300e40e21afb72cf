"""Hugging Face's audio models that hear the waveform, such as wav2vec 2.0 (Baevski et al., arXiv 2006.11477).

Axes: B windows, N samples, P positions in time, W the model's features.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from models.nets.errors import HuggingFaceError
from models.nets.huggingface import first_sentence
from models.spec import WaveformSpec

VARIANCE_FLOOR: Final = 1e-7
"""Added to a window's variance, as `Wav2Vec2FeatureExtractor` does; full scale is 1."""


class WaveformFront(nn.Module):
    """Waveforms (B, N) to the model's last layer (B, P, W).

    With `normalised`, each window is first brought to mean 0 and variance 1, the zeros after the sound's end included.
    """

    def __init__(self, net: nn.Module, *, normalised: bool, samples: int) -> None:
        super().__init__()
        self.net = net
        self.normalised = normalised
        with torch.no_grad():
            _, self.positions, self.width = self.eval()(torch.linspace(-1, 1, samples)[None]).shape

    def forward(self, sound: Tensor) -> Tensor:
        if self.normalised:
            variance = sound.var(dim=1, correction=0, keepdim=True)
            sound = (sound - sound.mean(dim=1, keepdim=True)) / (variance + VARIANCE_FLOOR).sqrt()
        return self.net(input_values=sound).last_hidden_state  # type: ignore[no-any-return]


def waveform_front(
    model: str, net: nn.Module, settings: dict[str, Any], spec: WaveformSpec, window_s: float
) -> WaveformFront:
    """Any model that takes `input_values` (B, N) and gives a `last_hidden_state`; of one with a decoder the encoder.

    Exported and compared with ONNX were wav2vec 2.0, its Conformer with rotary positions, HuBERT, WavLM, data2vec,
    UniSpeech, UniSpeech-SAT, SEW, SEW-D and Moonshine. Raises HuggingFaceError.
    """
    rate, (samples,) = int(settings.get("sampling_rate", 16000)), spec.shape(window_s)
    if rate != spec.sample_rate_hz:
        raise HuggingFaceError(
            f"{model} takes sound at {rate} Hz; inputs.voice.sample_rate_hz is {spec.sample_rate_hz}: set it to {rate}"
        )
    whole: Any = net
    if getattr(whole.config, "position_embeddings_type", None) == "relative":
        raise HuggingFaceError(f"{model} has relative positions, which the ONNX exporter cannot write; expected rotary")
    heard = whole.get_encoder() if whole.config.is_encoder_decoder else net
    try:
        return WaveformFront(heard, normalised=settings.get("do_normalize", True), samples=samples)
    except Exception as error:  # whatever it is that a strange model does with sound
        raise HuggingFaceError(
            f"{model} gives no features for a window of {samples} samples ({first_sentence(error)})"
        ) from None

"""Which encoder turns a modality into features: settings that a recipe holds."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from models.spec import FACE, VOICE, InputSpec, Spec, WaveformSpec

EncoderName = Literal["small", "resnet18", "r3d18", "huggingface", "spectrogram"]


class EncoderSpec(Spec):
    """One modality's encoder. What is new in it (projection, convolution over time) is always trained."""

    name: EncoderName = "small"
    """`resnet18` sees frame by frame, `r3d18` the whole clip; `spectrogram` is a ResNet-18 over a signal's picture."""
    weights: Path | None = None
    """A file of torchvision's weights, for the two ResNets and `spectrogram`; null begins with random ones."""
    model: str | None = None
    """A Hugging Face model: a local folder, or an id on the hub."""
    frozen: bool = False
    """Whether the part that came with weights stays as it is."""

    @model_validator(mode="after")
    def fields_belong_to_the_name(self) -> Self:
        if self.name in ("small", "huggingface") and self.weights is not None:
            raise ValueError(f"weights: {self.name} reads no weights file; only resnet18, r3d18 and spectrogram do")
        if (self.name == "huggingface") != (self.model is not None):
            raise ValueError(f"model: {self.name} has {self.model!r}; huggingface needs a folder or an id, others none")
        if self.frozen and self.weights is None and self.model is None:
            raise ValueError(f"frozen: {self.name} has no weights to keep; give `weights`, or train it")
        return self


def encoders_of(modality: str, inputs: InputSpec) -> tuple[EncoderName, ...]:
    """The encoders that can take `modality`; KeyError if the specification has none."""
    if modality in inputs.features:
        return ("small",)
    if modality == FACE and inputs.face is not None:
        return ("small", "resnet18", "r3d18", "huggingface")
    if modality == VOICE and inputs.voice is not None:
        return ("huggingface",) if isinstance(inputs.voice, WaveformSpec) else ("small", "huggingface")
    inputs.signals[modality]
    return ("small", "spectrogram")

"""The words that training and service share: modalities, tasks, and what a network is fed.

An `InputSpec` travels in the bundle's manifest. Both sides build tensors from it with `models.inputs`, so what a
network sees while it is trained and while it serves is the same by construction.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

FACE: Final = "face"
VOICE: Final = "voice"

Task = Literal["pain", "valence-arousal", "classification", "regression"]
"""Ordered levels, two values in [-1, 1], classes without an order, values of any range. The last two are tasks of
feature corpora."""
Side = Literal["left", "right"]
"""A half of the displayed picture."""
Modality = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""`face`, `voice`, `eda`, `ecg`, `emg`, `text`; corpora of features may add names of their own."""


class Spec(BaseModel):
    """Frozen, and an unknown key is an error: a typing mistake must not become a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FaceSpec(Spec):
    """Crops of one tracked face: uint8 (frames, size_px, size_px, 3), RGB, upright."""

    frames: Annotated[int, Field(ge=1, le=256)] = 10
    """Sampled evenly over the window; the spacing stays the same where a window is cut short."""
    size_px: Annotated[int, Field(ge=32, le=512)] = 112
    min_coverage: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The share of a window's frames that must show the face; below it the window has no face."""


class LogMelSpec(Spec):
    """Log-mel energies: float32 (mels, steps), natural logarithm of power, floor 1e-6 (about -13.8)."""

    form: Annotated[Literal["log-mel"], Field(exclude=True)] = "log-mel"
    """Never written: what says nothing of its form is log-mel, as in files of earlier versions."""
    sample_rate_hz: Annotated[int, Field(ge=8000, le=48000)] = 16000
    mels: Annotated[int, Field(ge=8, le=256)] = 64
    frame_s: Annotated[float, Field(gt=0, le=0.2)] = 0.025
    step_s: Annotated[float, Field(gt=0, le=0.1)] = 0.01
    low_hz: Annotated[float, Field(ge=0)] = 60.0
    high_hz: Annotated[float, Field(gt=0)] = 7600.0

    def steps(self, window_s: float) -> int:
        """Columns of a window of `window_s` seconds."""
        return round(window_s / self.step_s)

    def shape(self, window_s: float) -> tuple[int, int]:
        """(mels, steps) of a window of `window_s` seconds."""
        return (self.mels, self.steps(window_s))


class WaveformSpec(Spec):
    """The sound as it is: float32 (samples,), mono, full scale 1, zeros where the sound has ended."""

    form: Literal["waveform"] = "waveform"
    sample_rate_hz: Annotated[int, Field(ge=8000, le=48000)] = 16000

    def shape(self, window_s: float) -> tuple[int]:
        """(samples,) of a window of `window_s` seconds."""
        return (round(window_s * self.sample_rate_hz),)


def _form(voice: object) -> str:
    """The tag of a voice's description, which is none of ours where its form is not."""
    return f"<{voice.get('form', 'log-mel') if isinstance(voice, dict) else getattr(voice, 'form', None)}>"


VoiceSpec = Annotated[
    Annotated[LogMelSpec, Tag("<log-mel>")] | Annotated[WaveformSpec, Tag("<waveform>")],
    Discriminator(
        _form,
        custom_error_type="voice_form",
        custom_error_message="expected keys, among them form: waveform, or form: log-mel, which may be left out",
    ),
]
"""What a network hears."""


class SignalSpec(Spec):
    """One physiological channel or more: float32 (channels, rate_hz * window_s)."""

    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Column names in the corpus, in the order of the tensor's rows."""
    rate_hz: Annotated[float, Field(gt=0, le=1000)]

    def samples(self, window_s: float) -> int:
        """Samples of a window of `window_s` seconds."""
        return round(window_s * self.rate_hz)


class FeatureSpec(Spec):
    """Features that somebody has computed already: float32 of `shape`, NaN where a value is missing."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=2)]
    """(features,), or (steps, features) for a sequence."""


class InputSpec(Spec):
    """How a recording becomes windows, and each window tensors."""

    window_s: Annotated[float, Field(gt=0, le=60)]
    hop_s: Annotated[float, Field(gt=0, le=60)]
    face: FaceSpec | None = None
    voice: VoiceSpec | None = None
    signals: dict[Modality, SignalSpec] = {}
    features: dict[Modality, FeatureSpec] = {}
    """What stands here is taken from the corpus as it is, whatever the modality is called."""

    def shape(self, modality: str) -> tuple[int, ...]:
        """The shape of one window's tensor of `modality`, without the batch axis; KeyError if it is not fed."""
        if modality in self.features:
            return self.features[modality].shape
        if modality == FACE and self.face is not None:
            return (self.face.frames, self.face.size_px, self.face.size_px, 3)
        if modality == VOICE and self.voice is not None:
            return self.voice.shape(self.window_s)
        signal = self.signals[modality]
        return (len(signal.channels), signal.samples(self.window_s))

    def dtype(self, modality: str) -> Literal["uint8", "float32"]:
        """Frames stay uint8 until the device; everything else is float32."""
        return "uint8" if modality == FACE and FACE not in self.features else "float32"


def key_of(location: Sequence[int | str]) -> str:
    """The key that a validation error names, as a file has it: without the tags of alternatives, written `<tag>`.

    >>> key_of(("inputs", "voice", "<waveform>", "mels"))
    'inputs.voice.mels'
    """
    return ".".join(str(part) for part in location if not str(part).startswith("<"))

"""What a network is fed: shapes by form, and files that do or do not say the form of a voice."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.spec import InputSpec, LogMelSpec, WaveformSpec, key_of

LOG_MEL = '{"sample_rate_hz":16000,"mels":64,"frame_s":0.025,"step_s":0.01,"low_hz":60.0,"high_hz":7600.0}'


def read(voice: str) -> InputSpec:
    return InputSpec.model_validate_json(f'{{"window_s": 1.5, "hop_s": 1.0, "voice": {voice}}}')


@pytest.mark.parametrize(
    ("voice", "spec", "shape"),
    [
        (LOG_MEL, LogMelSpec(), (64, 150)),
        ("{}", LogMelSpec(), (64, 150)),
        ('{"form": "log-mel", "mels": 80}', LogMelSpec(mels=80), (80, 150)),
        ('{"form": "waveform"}', WaveformSpec(), (24000,)),
        ('{"form": "waveform", "sample_rate_hz": 11025}', WaveformSpec(sample_rate_hz=11025), (16538,)),
    ],
)
def test_a_voice_is_log_mel_unless_its_form_is_another(
    voice: str, spec: LogMelSpec | WaveformSpec, shape: tuple[int, ...]
) -> None:
    inputs = read(voice)

    assert inputs.voice == spec
    assert (inputs.shape("voice"), inputs.dtype("voice")) == (shape, "float32")
    assert InputSpec.model_validate_json(inputs.model_dump_json()) == inputs
    assert InputSpec.model_validate(inputs.model_dump()) == inputs


def test_log_mel_is_written_as_earlier_versions_did() -> None:
    assert read(LOG_MEL).model_dump_json() == (
        f'{{"window_s":1.5,"hop_s":1.0,"face":null,"voice":{LOG_MEL},"signals":{{}},"features":{{}}}}'
    )


@pytest.mark.parametrize(
    ("voice", "key", "said"),
    [
        ({"mels": 3}, "inputs.voice.mels", "greater than or equal to 8"),
        ({"form": "waveform", "mels": 64}, "inputs.voice.mels", "Extra inputs"),
        ({"form": "spectrum"}, "inputs.voice", "expected keys, among them form: waveform, or form: log-mel"),
        ({"form": ["waveform"]}, "inputs.voice", "expected keys, among them form: waveform"),
        ("waveform", "inputs.voice", "expected keys, among them form: waveform"),
    ],
)
def test_what_is_wrong_with_a_voice_is_named_without_its_form(voice: Any, key: str, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        read(json.dumps(voice))

    (error,) = raised.value.errors()
    assert key_of(("inputs", *error["loc"])) == key
    assert said in error["msg"]

"""Settings of encoders: which belong together, and which modality can have which encoder."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.nets.encoder_spec import EncoderName, EncoderSpec, encoders_of
from models.nets.encoders import EncoderError, Standardising, build_encoder
from models.nets.network import NetworkSpec
from models.spec import InputSpec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "w.pth"}, "weights: small reads no weights file"),
        ({"name": "huggingface", "model": "a/b", "weights": "w.pth"}, "weights: huggingface reads no weights file"),
        ({"name": "huggingface"}, "model: huggingface has None"),
        ({"name": "resnet18", "model": "a/b"}, "model: resnet18 has 'a/b'"),
        ({"frozen": True}, "frozen: small has no weights to keep"),
        ({"name": "r3d18", "frozen": True}, "frozen: r3d18 has no weights to keep"),
        ({"name": "resnet50"}, "'small', 'resnet18', 'r3d18', 'huggingface' or 'spectrogram'"),
        ({"nmae": "small"}, "nmae"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        EncoderSpec.model_validate(settings)

    assert message in str(error.value)


def test_settings_survive_a_recipe() -> None:
    network = NetworkSpec(encoders={"face": EncoderSpec(name="r3d18", weights=Path("r3d.pth"), frozen=True)})

    again = NetworkSpec.model_validate_json(network.model_dump_json())

    assert again == network
    assert again.encoder("face").weights == Path("r3d.pth")
    assert again.encoder("voice") == EncoderSpec()


@pytest.mark.parametrize(
    ("modality", "name"),
    [("face", "spectrogram"), ("voice", "resnet18"), ("eda", "r3d18"), ("text", "spectrogram"), ("gaze", "resnet18")],
)
def test_an_encoder_for_another_kind_of_modality_is_refused(
    modality: str, name: EncoderName, inputs: InputSpec
) -> None:
    with pytest.raises(EncoderError, match=f"{modality} cannot have '{name}', only small"):
        build_encoder(modality, inputs, EncoderSpec(name=name), dim=32, steps=3)


def test_a_modality_that_is_not_described_has_no_encoder(inputs: InputSpec) -> None:
    with pytest.raises(KeyError, match="emg"):
        encoders_of("emg", inputs)


def test_encoders_with_statistics_of_the_training_fold_can_be_told_apart(inputs: InputSpec) -> None:
    network = NetworkSpec(encoders={"ecg": EncoderSpec(name="spectrogram")})

    standardising = {
        modality
        for modality in ("face", "voice", "eda", "ecg", "text", "gaze")
        if isinstance(build_encoder(modality, inputs, network.encoder(modality), dim=32, steps=3), Standardising)
    }

    assert standardising == {"eda", "ecg", "text", "gaze"}


def test_importing_the_networks_imports_no_transformers() -> None:
    code = "import models.nets.student, models.nets.teacher, sys; sys.exit('transformers' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0

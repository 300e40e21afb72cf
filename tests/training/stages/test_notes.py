"""What every result says of how it was made: the channels of signals, facial ones by name, and who standardises."""

from pathlib import Path

import numpy as np
import pytest

from models.spec import FeatureSpec, InputSpec, SignalSpec
from training.config import CorpusConfig, RunConfig
from training.stages.prepare import prepare_setting
from training.stages.setting import Setting


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve people with a vector and two signals of one channel each."""
    rng = np.random.default_rng(0)
    arrays = {"face": rng.normal(size=(48, 2)), "eda": rng.normal(size=(48, 1, 4)), "emg": rng.normal(size=(48, 1, 4))}
    labels = {"task": "classification", "classes": ["no", "yes"], "label": np.tile([0, 1], 24)}
    file = tmp_path / "features.npz"
    np.savez(file, **labels, group=np.repeat(np.arange(12), 4), **{m: v.astype("f4") for m, v in arrays.items()})
    return file


def prepared(root: Path, channel: str, *by_person: str) -> Setting:
    config = RunConfig(
        name="notes",
        corpus=CorpusConfig(kind="features", root=root, task="classification", standardise_by_person=by_person),
        inputs=InputSpec(
            window_s=2.0,
            hop_s=2.0,
            features={"face": FeatureSpec(shape=(2,))},
            signals={
                "eda": SignalSpec(channels=("gsr",), rate_hz=2),
                "emg": SignalSpec(channels=(channel,), rate_hz=2),
                "ecg": SignalSpec(channels=("not read",), rate_hz=2),
            },
        ),
        modalities=("face", "eda", "emg"),
        students=(("face",), ("face", "eda")),
        tracker="none",
    )
    return prepare_setting(config, root.parent / "scratch")


def test_channels_of_signals_are_named(corpus: Path) -> None:
    assert prepared(corpus, "emg_trapezius").protocol[1:] == ["Signals: eda from gsr; emg from emg_trapezius."]


@pytest.mark.parametrize("channel", ["emg_corrugator", "emg_zygomaticus", "EMG Corrugator supercilii"])
def test_facial_emg_is_named_as_such(corpus: Path, channel: str) -> None:
    assert prepared(corpus, channel).protocol[1:] == [
        f"Signals: eda from gsr; emg from {channel}.",
        f"Facial EMG is used, from electrodes on the face: {channel}.",
    ]


def test_who_asks_a_bundle_is_told_what_to_standardise(corpus: Path) -> None:
    notes = prepared(corpus, "emg_trapezius", "eda", "emg").corpus.notes

    assert notes[0] == "Standardised by person over all of each person's recordings: eda, emg."
    assert notes[1].startswith("A bundle takes eda standardised: whoever asks it must centre and scale")
    assert prepared(corpus, "emg_trapezius", "emg").corpus.notes[1].startswith("Signals: ")

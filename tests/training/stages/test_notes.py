"""What every result says of how it was made: the channels of signals, facial ones by name, and who standardises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.spec import FeatureSpec, InputSpec, SignalSpec
from training.config import CorpusConfig, RunConfig
from training.corpora.clip import Clip
from training.stage_config import LabelsConfig
from training.stages.prepare import notes_on_pictures, prepare_setting
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


def prepared(root: Path, channel: str, *by_person: str, labels: float = 1.0) -> Setting:
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
        labels=LabelsConfig(fraction=labels),
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


@pytest.mark.parametrize(("share", "told"), [(0.125, "12.5%"), (0.01, "1%")])
def test_a_share_of_the_labels_is_told_with_what_it_comes_to(corpus: Path, share: float, told: str) -> None:
    setting, everything = prepared(corpus, "emg_trapezius", labels=share), prepared(corpus, "emg_trapezius")

    assert sum(len(part.labelled()) for part in (setting.train, setting.select)) == 4  # of each part one a class
    assert setting.corpus.notes[-1] == (
        f"{told} of the labels of training and selection people, class: in seed 0, fold 0 4 of 28 windows keep theirs."
    )
    assert everything.corpus.notes == setting.corpus.notes[:-1]


def test_faces_that_others_have_cropped_are_said_to_be_where_a_student_sees_them(corpus: Path) -> None:
    setting = prepared(corpus, "emg_trapezius")
    clips = [Clip(str(i), "somebody", video=None, pictures=corpus.parent if i < 2 else None) for i in range(3)]
    config, pictures = setting.config, replace(setting.corpus, clips=tuple(clips))

    assert notes_on_pictures(config, pictures) == (
        "The faces of 2 of 3 clips were cropped by the corpus's owners; a service crops them by the bundle's own nets, "
        "where these scores need not hold.",
    )
    assert notes_on_pictures(config.model_copy(update={"students": (("eda",),)}), pictures) == ()
    assert notes_on_pictures(config, replace(pictures, clips=tuple(clips[2:]))) == ()

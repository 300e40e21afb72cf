"""A corpus of features as windows, and its standardisation by person."""

import numpy as np
import pytest
import torch

from models.spec import FeatureSpec, InputSpec, SignalSpec
from training.by_person import standardised_by_person
from training.corpora.clip import CorpusError
from training.corpora.feature_corpus import FeatureCorpus
from training.feature_windows import feature_windows

INPUTS = InputSpec(
    window_s=2.0,
    hop_s=2.0,
    features={"face": FeatureSpec(shape=(2,))},
    signals={"eda": SignalSpec(channels=("eda",), rate_hz=2)},
)


def corpus(**changes: object) -> FeatureCorpus:
    """Six rows of two people; the third and fourth belong to one recording."""
    values: dict[str, object] = {
        "name": "six",
        "task": "classification",
        "classes": ("no", "yes"),
        "values": (),
        "licence": "CC0",
        "synthetic": True,
        "modalities": {
            "face": np.array([[1, 5], [3, 5], [5, np.nan], [10, 1], [20, 2], [np.nan, np.nan]], np.float32),
            "eda": np.arange(24, dtype=np.float32).reshape(6, 1, 4),
        },
        "labels": np.array([0, 1, 1, 1, 0, -1]),
        "group": ("ann", "ann", "ann", "ann", "bob", "bob"),
        "clip": ("a", "b", "c", "c", "d", "e"),
        "split": (None,) * 6,
        "groups": ({"sex": "female"},) * 4 + ({"sex": "male"},) * 2,
        "time_s": np.array([[0, 1], [0, 1], [0, 1], [1, 2], [0, 1], [0, 1]], np.float64),
    }
    return FeatureCorpus(**(values | changes))  # type: ignore[arg-type]


def test_rows_become_windows_and_rows_of_one_recording_one_clip() -> None:
    made, prepared = feature_windows(corpus(), INPUTS, ("face", "eda"))

    windows = prepared.windows
    assert [clip.id for clip in made.clips] == ["a", "b", "c", "d", "e"]
    assert [clip.level for clip in made.clips] == [0, 1, 1, 0, None]
    assert windows.clip.tolist() == [0, 1, 2, 2, 3, 4]
    assert windows.targets.tolist() == [0, 1, 1, 1, 0, -1]
    assert [windows.people[p] for p in windows.person] == ["ann"] * 4 + ["bob"] * 2
    assert windows.observed["face"].tolist() == [True] * 5 + [False]
    assert made.clips[3].groups == {"sex": "male"}
    assert torch.equal(windows.tensor("eda")[5], torch.tensor([[20.0, 21.0, 22.0, 23.0]]))


def test_rows_of_one_recording_with_other_classes_are_clips_of_their_own() -> None:
    made, prepared = feature_windows(corpus(labels=np.array([0, 1, 1, 0, 0, -1])), INPUTS, ("face",))

    assert [clip.id for clip in made.clips][2:4] == ["c class 1", "c class 0"]
    assert prepared.windows.clip.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_signal_with_a_gap_is_one_sentence() -> None:
    gap = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    gap[2, 0, 1] = np.nan

    with pytest.raises(CorpusError, match="six: the signal eda of row 2 has gaps"):
        feature_windows(corpus(modalities={"eda": gap}), INPUTS, ("eda",))


def test_each_person_is_centred_and_scaled_by_what_is_there() -> None:
    _, prepared = feature_windows(corpus(), INPUTS, ("face", "eda"))

    scaled = standardised_by_person(prepared.windows, ("face", "eda"), INPUTS)

    face = scaled.tensor("face")
    ann = np.array([1.0, 3.0, 5.0, 10.0])
    assert torch.allclose(face[:4, 0], torch.tensor((ann - ann.mean()) / ann.std()).float())
    assert torch.equal(face[4], torch.tensor([0.0, 0.0]))  # bob has one value of each
    assert bool(face[5].isnan().all())
    assert bool(face[2, 1].isnan())
    eda = scaled.tensor("eda")
    for rows in (slice(0, 4), slice(4, 6)):
        assert float(eda[rows].mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(eda[rows].std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(prepared.windows.tensor("eda").flatten(), torch.arange(24.0))  # the original is left as it was

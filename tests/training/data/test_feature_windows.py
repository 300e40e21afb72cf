"""A corpus of features as windows, and its standardisation by person."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.nets.network import NetworkSpec
from models.spec import FeatureSpec, InputSpec, SignalSpec
from training.config import CorpusConfig, RunConfig
from training.corpora.clip import CorpusError
from training.corpora.feature_corpus import FeatureCorpus
from training.data.by_person import standardised_by_person
from training.data.feature_windows import feature_windows
from training.scores.predictions import Predictions
from training.stage_config import SplitConfig
from training.stages.evaluate import predict_people
from training.stages.prepare import prepare_setting

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


def test_each_row_of_a_recording_with_several_classes_is_a_clip_of_its_own() -> None:
    labels = np.array([0, 1, -1, 0, 1, 0])
    several = corpus(clip=("a", "c", "c", "c", "c", "d"), group=("ann",) * 5 + ("bob",), labels=labels)

    made, prepared = feature_windows(several, INPUTS, ("face",))

    assert [clip.id for clip in made.clips] == ["a", "c 0000000", "c 0000001", "c 0000002", "c 0000003", "d"]
    assert [clip.level for clip in made.clips] == [0, 1, None, 0, 1, 0]
    assert {clip.subject for clip in made.clips[1:5]} == {"ann"}
    assert prepared.windows.clip.tolist() == [0, 1, 2, 3, 4, 5]
    assert made.notes == ("1 of 3 recordings have windows of several classes, each of which is scored by itself.",)


def test_rows_without_a_label_stay_with_their_recording_where_it_has_one_class() -> None:
    one = corpus(
        clip=("a", "b", "c", "c", "c", "d"), group=("ann",) * 5 + ("bob",), labels=np.array([0, 1, -1, 1, 1, -1])
    )

    made, prepared = feature_windows(one, INPUTS, ("face",))

    assert [(clip.id, clip.level) for clip in made.clips] == [("a", 0), ("b", 1), ("c", 1), ("d", None)]
    assert prepared.windows.clip.tolist() == [0, 1, 2, 2, 2, 3]
    assert made.notes == ()


def test_values_that_change_within_a_recording_leave_it_one_clip() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2) / 12
    affect = corpus(task="valence-arousal", classes=(), values=("valence", "arousal"), labels=values)

    made, prepared = feature_windows(affect, INPUTS, ("face",))

    assert [(clip.id, clip.level) for clip in made.clips] == [(name, None) for name in "abcde"]
    assert prepared.windows.clip.tolist() == [0, 1, 2, 2, 3, 4]
    assert made.notes == ()


def test_a_recording_named_as_another_ones_row_is_one_sentence() -> None:
    with pytest.raises(
        CorpusError, match=r"six: clip c 0000001 is a recording, and would name a row of the clip c, whi"
    ):
        feature_windows(
            corpus(clip=("a", "b", "c", "c", "c 0000001", "e"), labels=np.array([0, 1, 1, 0, 0, -1])), INPUTS, ("face",)
        )


def test_labels_that_change_places_within_recordings_change_nothing_of_what_is_said(tmp_path: Path) -> None:
    recording = np.repeat(np.arange(24), 6)  # three of each person, the last of which has one class
    alternating, exchanged = (np.tile(own, 24) for own in ([0, 1, 1, -1, 0, 1], [1, 0, 1, -1, 1, 0]))
    rng = np.random.default_rng(0)
    sessions = {
        "task": "classification",
        "classes": ["rest", "stress"],
        "group": recording // 3,
        "clip": recording,
        "face": rng.normal(size=(144, 2)).astype(np.float32),
        "eda": rng.normal(size=(144, 2)).astype(np.float32),
    }

    said = []
    for name, labels in (("as-it-was", alternating), ("exchanged", exchanged)):
        of_one = recording // 3 % 2
        np.savez(tmp_path / f"{name}.npz", label=np.where(recording % 3 == 2, of_one, labels), **sessions)
        said.append(_untrained(tmp_path / f"{name}.npz"))

    before, after = said
    assert before.item.tolist() == after.item.tolist()
    assert len(before.item) == 2 * (5 + 5 + 1)  # of two people two recordings row by row, and one as a whole
    np.testing.assert_array_equal(before.said, after.said)
    assert (before.truth != after.truth).sum() == 2 * (4 + 4)


def _untrained(root: Path) -> Predictions:
    """What a student with its first weights says of the test people."""
    config = RunConfig.model_validate(
        {
            "name": "sessions",
            "corpus": CorpusConfig(kind="features", root=root, task="classification"),
            "inputs": InputSpec(
                window_s=1.0, hop_s=1.0, features={"face": FeatureSpec(shape=(2,)), "eda": FeatureSpec(shape=(2,))}
            ),
            "modalities": ("face", "eda"),
            "students": (("face",),),
            "network": NetworkSpec(),
            "splits": SplitConfig(folds=4),
            "tracker": "none",
        }
    )
    setting = prepare_setting(config, root.parent / "scratch")
    assert (
        setting.protocol[1] == "16 of 24 recordings have windows of several classes, each of which is scored by itself."
    )
    return predict_people(setting, setting.new_student(("face",), hallucinates=False), ("face",), setting.test)


def test_a_signal_with_a_gap_is_one_sentence() -> None:
    gap = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    gap[2, 0, 1] = np.nan

    with pytest.raises(CorpusError, match="six: the signal eda of row 2 has gaps"):
        feature_windows(corpus(modalities={"eda": gap}), INPUTS, ("eda",))


def test_a_person_is_scaled_in_whatever_unit_the_values_are() -> None:
    eda = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    scaled = []
    for unit in (1.0, 2.0**-40):  # siemens where microsiemens were meant, and smaller
        _, prepared = feature_windows(corpus(modalities={"eda": eda * np.float32(unit)}), INPUTS, ("eda",))
        scaled.append(standardised_by_person(prepared.windows, ("eda",), INPUTS).tensor("eda"))

    assert torch.equal(scaled[0], scaled[1])
    assert float(scaled[0].abs().max()) > 1


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

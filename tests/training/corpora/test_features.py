"""Feature corpora: both file formats give the same corpus, and what is wrong is named with its file and key."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.spec import FeatureSpec, InputSpec, SignalSpec
from training.corpora.clip import CorpusError
from training.corpora.feature_corpus import require_inputs
from training.corpora.features import read_features, write_features

NAN = np.nan
Writer = Callable[..., Path]


def test_an_npz_becomes_a_corpus(npz: Writer) -> None:
    corpus = read_features(
        npz(
            name="study", licence="CC0.", group_sex=np.array(["f", "f", "m", "m"]), clip=np.array([7, 7, 8, 9]),
            split=np.array(["train", "train", "test", "test"]),
        )
    )  # fmt: skip

    assert (corpus.name, corpus.task, corpus.classes, corpus.values) == (
        "study",
        "classification",
        ("calm", "tense"),
        (),
    )
    assert (corpus.licence, corpus.synthetic, len(corpus)) == ("CC0.", False, 4)
    assert corpus.labels.dtype == np.int64
    assert corpus.labels.tolist() == [0, 1, -1, 1]
    assert corpus.group == ("anna", "anna", "ben", "ben")
    assert corpus.clip == ("7", "7", "8", "9")
    assert corpus.split == ("train", "train", "test", "test")
    assert corpus.groups[3] == {"sex": "m"}
    assert corpus.time_s.tolist() == [[0, 1], [1, 2], [0, 1], [0, 1]]  # their number in the clip
    assert {name: values.shape for name, values in corpus.modalities.items()} == {"voice": (4, 2), "eda": (4, 1, 6)}
    assert corpus.observed("voice").tolist() == [True, True, False, True]


def test_without_clips_and_names_each_row_is_its_own_and_the_file_gives_the_name(npz: Writer) -> None:
    corpus = read_features(npz(group=np.array([1, 1, 2, 2])))

    assert corpus.name == "features"
    assert corpus.group == ("1", "1", "2", "2")
    assert len(set(corpus.clip)) == 4
    assert corpus.split == (None,) * 4
    assert corpus.groups == ({},) * 4
    assert corpus.licence == "features.npz states no licence."


def test_selection_people_count_as_training_people(npz: Writer) -> None:
    corpus = read_features(npz(split=np.array(["val", "val", "test", "test"])))

    assert corpus.split == ("train", "train", "test", "test")


@pytest.mark.parametrize(
    ("task", "values", "label", "names"),
    [
        ("valence-arousal", None, [[0.5, -1], [NAN, NAN], [1, 0], [0, 0]], ("valence", "arousal")),
        ("regression", ["pain"], [3.0, NAN, 1.0, 0.0], ("pain",)),
        ("regression", ["a", "b", "c"], [[9.0, 8, 7]] * 4, ("a", "b", "c")),
    ],
)
def test_values_are_labels_too(npz: Writer, task: str, values: Any, label: Any, names: tuple[str, ...]) -> None:
    corpus = read_features(npz(task=task, classes=None, values=values, label=np.array(label)))

    assert (corpus.classes, corpus.values) == ((), names)
    assert corpus.labels.dtype == np.float32
    np.testing.assert_array_equal(corpus.labels, np.array(label, np.float32).reshape(4, len(names)))


def test_levels_of_pain_are_whole_numbers(npz: Writer) -> None:
    corpus = read_features(npz(task="pain", classes=["BL1", "PA1", "PA2"], label=np.array([2, 0, 1, -1], np.int8)))

    assert corpus.classes == ("BL1", "PA1", "PA2")
    assert corpus.labels.tolist() == [2, 0, 1, -1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label": None}, "features.npz has no label: expected one label a row."),
        ({"group": None}, "features.npz has no group: expected the person of each row."),
        ({"task": None}, "features.npz has no task: expected a text, one of pain, valence-arousal"),
        ({"task": "love"}, "features.npz: task is 'love': expected one of pain, valence-arousal, classification"),
        ({"label": np.zeros(0, int)}, "features.npz has no rows: expected label to hold one value for each"),
        ({"label": np.array([0, 1, 2, 1])}, "features.npz: label is 2 in row 2: expected whole numbers from 0 to 1"),
        ({"label": np.array([0, NAN, 1, 1])}, "features.npz: label is float64 (4,): expected whole numbers"),
        ({"label": np.full(4, -1)}, "features.npz: label is -1 in every row"),
        ({"classes": None}, "features.npz: classification needs classes: expected at least two names"),
        ({"classes": ["a", "a"]}, "features.npz: classification needs classes: expected at least two names, each once"),
        ({"classes": ["a", " "]}, "features.npz: classes has ' ': expected a name in one line for each."),
        ({"classes": ["a\n", "b"]}, r"features.npz: classes has 'a\n': expected a name in one line for each."),
        ({"classes": ["a", "a "]}, "features.npz: classes has 'a' and 'a ': expected names that look different."),
        (
            {"licens": "CC0"},
            "features.npz: licens is a single value: expected rows of a modality, or one of task, classes, values",
        ),
        ({"eda": np.zeros((3, 2))}, "features.npz: eda has 3 rows and label has 4: expected a row for each label"),
        ({"eda": np.zeros(4)}, "features.npz: eda is float64 (4,): expected numbers (N, features)"),
        ({"eda": np.array(["x"] * 4)}, "features.npz: eda is <U1 (4,): expected numbers (N, features)"),
        ({"eda": np.array([[1], [2], [np.inf], [3]])}, "features.npz: eda is infinite in row 2"),
        ({"eda": np.array([[1], [1e300], [2], [3]])}, "features.npz: eda is infinite in row 1: expected numbers"),
        ({"EDA": np.zeros((4, 1))}, "features.npz: EDA cannot be a modality's name: expected small letters"),
        ({"eda": None, "voice": None}, "features.npz: there is no modality"),
        ({"group": np.array([1.0, 2, 3, 4])}, "features.npz: group is float64 (4,): expected text or whole numbers"),
        ({"group": np.array(["a", "", "b", "b"])}, "features.npz: group is <U1 (4,), empty in row 1"),
        ({"group": np.array(["a", " ", "b", "b"])}, "features.npz: group is <U1 (4,), empty in row 1"),
        ({"group": np.array(["a", "a", "nan", "b"])}, "features.npz: group is <U3 (4,), nan in row 2"),
        ({"group": np.array(["a", "None", "b", "b"])}, "features.npz: group is <U4 (4,), None in row 1"),
        ({"group_arm": np.array(["a", "a", "nan", "nan"])}, "features.npz: group_arm is <U3 (4,), nan in row 2"),
        ({"group_arm": np.array(["a", "a", "", ""])}, "one a row. What is not known is called unknown."),
        ({"group": np.array(["a"])}, "features.npz: group is <U1 (1,): expected text or whole numbers (4,)"),
        (
            {"split": np.array(["train", "test", "test", "test"])},
            "features.npz: split of anna is test and train: expected each person in one split.",
        ),
        ({"split": np.array(["dev"] * 4)}, "features.npz: split is 'dev' in row 0: expected train, val, test."),
        ({"clip": np.array([1, 2, 2, 3])}, "features.npz: clip 2 is of anna and of ben: expected one person"),
        ({"group_sex": np.array(["f", "m", "m", "m"])}, "features.npz: group_sex of anna is f and m: expected one"),
        ({"time_s": np.zeros((4, 2))}, "features.npz: time_s is [0.0, 0.0] in row 0: expected a start before an end"),
        ({"time_s": np.zeros(4)}, "features.npz: time_s is float64 (4,): expected numbers (4, 2)"),
        ({"synthetic": "yes"}, "features.npz: synthetic is <U3 (): expected true or false."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_file_and_key(npz: Writer, changes: dict[str, Any], sentence: str) -> None:
    path = npz(**changes)

    with pytest.raises(CorpusError, match=re.escape(sentence)) as caught:
        read_features(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ([[0.5, 2], [0, 0], [0, 0], [0, 0]], "label is beyond 1 in row 0: expected values in [-1, 1]"),
        ([[0.5, NAN], [0, 0], [0, 0], [0, 0]], "label is NaN in a part of row 0"),
        ([[0, 0], [0, -np.inf], [0, 0], [0, 0]], "label is infinite in row 1"),
        ([[0, 0], [0, 0], [1e300, 0], [0, 0]], "label is infinite in row 2: expected a number in float32, or NaN"),
        ([[NAN, NAN]] * 4, "label is NaN in every row"),
        ([0.5, 0, 0, 0], "label is float64 (4,): expected numbers (4, 2)"),
    ],
)
def test_bad_values_are_named_with_their_row(npz: Writer, label: Any, sentence: str) -> None:
    path = npz(task="valence-arousal", classes=None, label=np.array(label))

    with pytest.raises(CorpusError, match=re.escape(f"features.npz: {sentence}")):
        read_features(path)


def test_values_of_valence_and_arousal_come_in_that_order(npz: Writer) -> None:
    path = npz(task="valence-arousal", classes=None, values=["arousal", "valence"], label=np.zeros((4, 2)))

    sentence = "valence-arousal needs values: expected valence, arousal, in order."
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_features(path)


def test_a_group_of_people_may_be_called_none(npz: Writer) -> None:
    corpus = read_features(npz(group_diagnosis=np.array(["None", "None", "MDD", "MDD"])))

    assert [own["diagnosis"] for own in corpus.groups] == ["None", "None", "MDD", "MDD"]


def test_pickled_objects_are_refused_unread(npz: Writer) -> None:
    path = npz(group=np.array([{"a": 1}] * 4, dtype=object))
    with pytest.raises(CorpusError, match=r"features\.npz: group cannot be read .*no objects"):
        read_features(path)

    path.write_bytes(pickle.dumps({"label": 1}))
    with pytest.raises(CorpusError, match=r"features\.npz is cut short or no npz file"):
        read_features(path)


def test_a_path_without_one_feature_file_says_what_was_expected(npz: Writer, tmp_path: Path) -> None:
    for path, sentence in (
        (tmp_path, "holds neither features.npz nor features.parquet: expected one of them"),
        (tmp_path / "lost.npz", "is not there, or no .npz or .parquet"),
    ):
        with pytest.raises(CorpusError, match=re.escape(sentence)):
            read_features(path)

    assert read_features(npz().parent).group == read_features(npz()).group
    (tmp_path / "features.parquet").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"holds both features\.npz and features\.parquet"):
        read_features(tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("task", ["classification", "valence-arousal"])
def test_what_is_written_reads_back(npz: Writer, tmp_path: Path, suffix: str, task: str) -> None:
    affect = {"task": task, "classes": None, "label": np.array([[0.5, -1], [NAN, NAN], [1, 0], [0, 0]], np.float32)}
    changes = {} if task == "classification" else affect
    corpus = read_features(
        npz(
            **changes, synthetic=True, licence="CC0.", name="study", split=np.array(["train", "train", "test", "test"]),
            group_age=np.array(["18-35", "18-35", "unknown", "unknown"]),
            time_s=np.array([[0.1, 1e6 + 0.1], [2, 3], [4, 5], [6, 7]]),
        )
    )  # fmt: skip

    write_features(tmp_path / "out" / f"copy{suffix}", corpus)
    copy = read_features(tmp_path / "out" / f"copy{suffix}")

    for name in ("name", "task", "classes", "values", "licence", "synthetic", "group", "clip", "split", "groups"):
        assert getattr(copy, name) == getattr(corpus, name)
    for ours, theirs in ((copy.labels, corpus.labels), (copy.time_s, corpus.time_s)):
        np.testing.assert_array_equal(ours, theirs)
    assert set(copy.modalities) == set(corpus.modalities)
    for name, values in corpus.modalities.items():
        np.testing.assert_array_equal(copy.modalities[name], values)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"copy{suffix}"]


def test_a_file_is_written_whole_or_not_at_all(npz: Writer, tmp_path: Path) -> None:
    corpus = read_features(npz())

    with pytest.raises(CorpusError, match=r"expected a name that ends in \.npz or \.parquet"):
        write_features(tmp_path / "out" / "features.csv", corpus)
    assert not (tmp_path / "out").exists()


def test_no_one_of_several_values_is_called_as_their_mean_is(npz: Writer) -> None:
    path = npz(task="regression", classes=None, values=["mean", "low"], label=np.ones((4, 2)))

    with pytest.raises(CorpusError, match=r"values has mean: expected another name, since ccc_mean is the mean over a"):
        read_features(path)
    assert read_features(npz(task="regression", classes=None, values=["mean"], label=np.ones(4))).values == ("mean",)


def test_shapes_must_be_those_of_the_recipe(npz: Writer) -> None:
    corpus = read_features(npz())
    inputs = InputSpec(
        window_s=3.0,
        hop_s=3.0,
        features={"voice": FeatureSpec(shape=(2,)), "text": FeatureSpec(shape=(5,))},
        signals={"eda": SignalSpec(channels=("gsr",), rate_hz=2)},
    )

    require_inputs(corpus, inputs, ["voice", "eda"])
    with pytest.raises(CorpusError, match=r"features has no modality text: it has voice, eda\."):
        require_inputs(corpus, inputs, ["text"])
    longer = inputs.model_copy(update={"window_s": 4.0, "features": {"voice": FeatureSpec(shape=(3,))}})
    with pytest.raises(
        CorpusError, match=r"a row of eda is 1 × 6, but inputs\.signals\.eda says 1 × 8: expected chann"
    ):
        require_inputs(corpus, longer, ["eda"])
    with pytest.raises(
        CorpusError, match=r"a row of voice is 2, but inputs\.features\.voice says 3: expected its shape"
    ):
        require_inputs(corpus, longer, ["voice"])

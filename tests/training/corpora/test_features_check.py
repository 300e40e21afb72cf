"""The check of a feature corpus: what it counts, and which problems and leaks it names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.corpora.clip import CorpusError
from training.corpora.features import check_features, read_features

NAN = np.nan
Writer = Callable[..., Path]


def test_the_check_lists_every_problem(npz: Writer) -> None:
    lines = check_features(
        npz(label=np.array([0, 1, 5, 1]), eda=np.zeros((3, 1)), split=np.array(["train", "test"] * 2))
    )

    assert [line.split(":")[2].split()[0] for line in lines] == ["label", "split", "split", "eda"]
    assert all(line.startswith("problem: features.npz: ") for line in lines)


def test_the_check_counts_classes_people_and_what_is_missing(npz: Writer) -> None:
    lines = check_features(npz(name="study", split=np.array(["train", "train", "test", "test"])))

    assert lines == [
        "study: classification, 4 rows of 2 people in 4 clips",
        "split test: 2 rows",
        "split train: 2 rows",
        "class calm: 1 rows",
        "class tense: 2 rows",
        "without a label: 1 rows",
        "modality voice: 2, 1 rows missing, 1 values missing in the others",
        "modality eda: 1 × 6, 0 rows missing, 0 values missing in the others",
        "person anna: 2 rows",
        "person ben: 2 rows",
    ]


def test_the_check_names_what_no_row_has(npz: Writer) -> None:
    voice = np.full((4, 2), NAN, np.float32)

    lines = check_features(npz(classes=["calm", "tense", "lost"], label=np.array([1, 1, -1, 1]), voice=voice))

    assert lines[:4] == [
        "problem: voice is missing in every row: expected a row that has it.",
        "problem: every labelled row is of the class tense: expected at least two classes.",
        "note: no row is of the class lost.",
        "note: no row is of the class calm.",
    ]


def test_the_check_names_a_class_that_only_the_test_people_have(npz: Writer) -> None:
    said = "rows of the class tense are in the split test only: nothing can learn it from the others."
    split = np.array(["train", "train", "test", "test"])

    assert check_features(npz(label=np.array([0, -1, 0, 1]), split=split))[0] == f"note: {said}"
    for label, own in (([0, -1, 0, 1], None), ([0, 1, 0, 1], split), ([0, 1, 0, 0], split)):
        assert not [line for line in check_features(npz(label=np.array(label), split=own)) if said in line]


def test_the_check_names_people_who_only_differ_in_capitals(npz: Writer) -> None:
    lines = check_features(npz(group=np.array(["P01", "p01", "p01", "b"])))

    assert lines[0] == "note: group has P01 and p01, who count as two people."
    assert [line for line in lines[1:] if line.startswith("note: ")] == []


def test_the_check_says_where_rows_are_scored_by_themselves(npz: Writer) -> None:
    own = np.array(["a", "a", "b", "b"])  # calm and tense in anna's, tense and no label in ben's

    lines = check_features(npz(name="study", clip=own, label=np.array([0, 1, 1, -1])))

    assert lines[:2] == [
        "note: 1 of 2 recordings have windows of several classes, each of which is scored by itself.",
        "study: classification, 4 rows of 2 people in 2 clips",
    ]
    assert not [line for line in check_features(npz(clip=own, label=np.array([1, 1, -1, 0]))) if "several" in line]


def test_the_check_gives_the_range_of_values(npz: Writer) -> None:
    lines = check_features(npz(task="regression", classes=None, values=["pain"], label=np.array([3.5, NAN, -1, 0])))

    assert "pain: 3 rows, -1 to 3.5" in lines
    assert "without a label: 1 rows" in lines


def test_rows_that_stand_in_two_people_or_splits_are_leaks(npz: Writer) -> None:
    eda = np.arange(40, dtype=np.float32).reshape(4, 10)
    eda[2] = eda[1]  # ben's first row is anna's second
    eda[3] = eda[0]
    voice = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.float32)  # two numbers may be alike by chance

    lines = check_features(npz(eda=eda, voice=voice, split=np.array(["train", "train", "test", "test"])))

    assert lines[:4] == [
        "problem: eda is the same in rows of two splits, 2 times: first in row 0 (train) and row 3 (test).",
        "problem: eda is the same in rows of two people, 2 times: first in row 0 (anna) and row 3 (ben).",
        "note: voice is the same in rows of two splits, once: in row 0 (train) and row 2 (test).",
        "note: voice is the same in rows of two people, once: in row 0 (anna) and row 2 (ben).",
    ]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("anna", "anna ", "'anna' and 'anna '"),  # padded, as tables of fixed width are
        ("Zo\u00eb", "Zoe\u0308", r"'Zoe\\u0308' and 'Zo\\xeb'"),  # the same letters on the screen
        ("anna k", "anna  k", "'anna  k' and 'anna k'"),
    ],
)
def test_a_person_in_two_spellings_would_be_dealt_as_two_and_is_refused(
    npz: Writer, one: str, other: str, said: str
) -> None:
    group = np.array([one, other, "ben", "ben"])

    sentence = f"group has {said}: expected one spelling of each person, spaces and accents included"
    assert check_features(npz(group=group))[0].startswith("problem: features.npz: group has ")
    with pytest.raises(CorpusError, match=rf"^features\.npz: {sentence}\.$"):
        read_features(npz(group=group))


def test_names_that_look_different_are_of_different_people(npz: Writer) -> None:
    group = ("1", "01", "Zoe", "Zo\u00eb")

    assert read_features(npz(group=np.array(group))).group == group


def test_one_persons_repeated_rows_and_missing_rows_are_no_leak(npz: Writer) -> None:
    eda = np.arange(40, dtype=np.float32).reshape(4, 10)
    eda[1] = eda[0]
    eda[2:] = NAN
    eda[3] = np.arange(10) + 100

    assert not [line for line in check_features(npz(eda=eda)) if "the same" in line]

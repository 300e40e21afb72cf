"""The check of BIDS physiology: problems, recordings, events and people."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from training.corpora.bids import check_bids, read_bids
from training.corpora.clip import CorpusError

from .bids_set import INPUTS, ramps

Writer = Callable[..., Path]


def test_the_check_names_units_that_cannot_be(bids: Writer) -> None:
    columns = {"Columns": ["GSR_left", "respiratory"], "GSR_left": {"Units": "kOhm"}, "respiratory": {"Units": "cm"}}

    lines = check_bids(bids(facts=columns))

    assert lines[:3] == [
        "problem: the JSON of sub-01_task-heat_physio.tsv.gz gives GSR_left the unit 'kOhm': expected siemens for eda, "
        "such as uS or microsiemens.",
        "note: the unit 'cm' of respiratory is neither siemens nor volt: a recipe cannot read it as eda or emg.",
        "1 runs of 1 people, 1 recordings that can be read",
    ]
    understood = columns | {"GSR_left": {"Units": "microsiemens"}, "respiratory": {"Units": "V"}}
    assert check_bids(bids(facts=understood))[0] == "1 runs of 1 people, 1 recordings that can be read"


def test_the_check_compares_onsets_with_recordings(bids: Writer) -> None:
    name = "sub-01_task-heat_events.tsv"

    some = check_bids(bids(events="onset\ttrial_type\n-2\tlow\n17.9\thigh\n18\thigh\n"))
    every = check_bids(bids(events="onset\ttrial_type\n1000\tlow\n6000\thigh\n"))

    outside = "events begin outside the recordings, which last from -2 to 18 s; the first has the onset"
    assert some[0] == f"note: {name}: 1 of 3 {outside} 18."
    assert every[0] == f"problem: {name}: 2 of 2 {outside} 1000."


def test_the_check_counts_who_is_in_participants_tsv_and_says_who_is_not(bids: Writer) -> None:
    bids("sub-01")
    root = bids("sub-02", values=ramps()[:990])
    people = "participant_id\tsex\tage\nsub-01\tF\t40\n02\tM\t40\n"
    (root / "participants.tsv").write_text(people)

    lines = check_bids(root)

    assert lines[:2] == [
        "note: participants.tsv has no line for sub-02: sex and age are unknown.",
        "note: participants.tsv names 02, of whom there is no recording.",
    ]
    assert [line for line in lines if line.startswith(("sex", "age"))] == [
        "age 36-50: 1 people", "age unknown: 1 people", "sex female: 1 people", "sex unknown: 1 people",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("people", "sentence"),
    [
        ("participant_id,sex\nsub-01,F\n", "participants.tsv has no column participant_id: expected a header"),
        ("participant_id\tsex\nsub-01\tF\nsub-01\tM\n\t\n\t\n", "participants.tsv has two lines of sub-01: expected"),
    ],
)
def test_the_check_finds_participants_that_the_training_would_refuse(bids: Writer, people: str, sentence: str) -> None:
    root = bids()
    (root / "participants.tsv").write_text(people)

    assert check_bids(root)[0].startswith(f"problem: {sentence}")
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_bids(root, INPUTS, ("low", "high"), "pain")


def test_the_check_lists_problems_recordings_events_and_people(bids: Writer) -> None:
    bids("sub-01")
    bids("sub-02")  # the same recording as sub-01's
    root = bids("sub-03", facts={"StartTime": None}, values=ramps()[:900])

    lines = check_bids(root)

    assert lines == [
        "problem: the JSON of sub-03_task-heat_physio.tsv.gz has no StartTime: expected a number.",
        "problem: sub-01/func/sub-01_task-heat_physio.tsv.gz and sub-02/func/sub-02_task-heat_physio.tsv.gz are the "
        "same file: expected a recording of its own for each clip.",
        "3 runs of 3 people, 2 recordings that can be read",
        "columns skin, respiratory at 50 Hz: 2 recordings",
        "trial_type cue: 3 events",
        "trial_type high: 3 events",
        "trial_type low: 3 events",
        "person sub-01: 3 events",
        "person sub-02: 3 events",
        "person sub-03: 3 events",
    ]

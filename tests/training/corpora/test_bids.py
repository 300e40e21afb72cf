"""Physiology in BIDS: recordings with their JSON, and events as rows of a corpus."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.spec import InputSpec, SignalSpec
from training.corpora.bids import check_bids, read_bids
from training.corpora.bids_runs import age_band
from training.corpora.clip import CorpusError

from .bids_set import EVENTS, INPUTS, RATE_HZ, ramps

Writer = Callable[..., Path]


def test_a_window_that_holds_no_sample_is_one_sentence(bids: Writer) -> None:
    root = bids(facts={"SamplingFrequency": 1.0})
    short = InputSpec(window_s=0.4, hop_s=0.4, signals={"ecg": SignalSpec(channels=("skin",), rate_hz=10)})

    with pytest.raises(
        CorpusError, match=r"^inputs\.window_s is 0\.4: expected at least a sample of sub-01.*, at 1 Hz\.$"
    ):
        read_bids(root, short, ("low", "high"), "pain")


def test_each_event_of_a_type_becomes_a_row(bids: Writer) -> None:
    bids("sub-02")
    root = bids("sub-01")
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t36\tF\n")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Heat", "License": "CC0"}))

    corpus = read_bids(root, INPUTS, ("high", "low"), "classification")

    assert (corpus.task, corpus.classes, corpus.licence, corpus.synthetic) == (
        "classification", ("high", "low"), "Heat: CC0.", False,
    )  # fmt: skip
    assert corpus.labels.tolist() == [1, 0, 1, 0]
    assert corpus.group == ("sub-01", "sub-01", "sub-02", "sub-02")
    assert corpus.clip[:2] == ("sub-01_task-heat-001", "sub-01_task-heat-002")
    assert corpus.groups[0] == {"age": "36-50", "sex": "female"}
    assert corpus.groups[2] == {"age": "unknown", "sex": "unknown"}
    assert corpus.time_s[:2].tolist() == [[1, 5], [6, 10]]
    assert corpus.notes == ("2 events of type cue were left out.",)
    assert {name: values.shape for name, values in corpus.modalities.items()} == {
        "eda": (4, 1, 40),
        "breath": (4, 1, 20),
    }


def test_signals_start_at_the_onset_on_the_clock_of_the_events(bids: Writer) -> None:
    corpus = read_bids(bids(), INPUTS, ("low", "high"), "pain")

    time_s = np.arange(20) / 5  # inside: filters mirror the ends
    np.testing.assert_allclose(corpus.modalities["breath"][0, 0, 3:-3], -(1 + time_s)[3:-3], atol=0.01)
    np.testing.assert_allclose(corpus.modalities["breath"][1, 0, 3:-3], -(6 + time_s)[3:-3], atol=0.01)
    skin = np.log(3 + 6 + np.arange(40) / 10)  # prepared as everywhere: the logarithm of microsiemens
    np.testing.assert_allclose(corpus.modalities["eda"][1, 0, 4:-4], skin[4:-4], atol=0.01)


@pytest.mark.parametrize(("unit", "factor"), [("S", 1e6), ("mS", 1e3), ("µS", 1.0), ("nS", 1e-3)])
def test_conductance_is_turned_into_microsiemens(bids: Writer, unit: str, factor: float) -> None:
    values = np.full((1000, 2), 5 / factor if factor <= 1 else 0.5)

    corpus = read_bids(bids(values=values, facts={"skin": {"Units": unit}}), INPUTS, ("low", "high"), "pain")

    np.testing.assert_allclose(corpus.modalities["eda"], np.log(values[0, 0] * factor), rtol=1e-4)


def test_units_in_words_are_turned_into_microsiemens_and_microvolts(bids: Writer) -> None:
    time_s = np.arange(1000) / RATE_HZ
    beating = np.stack([np.full(1000, 5e-6), 2e-4 * np.sin(2 * np.pi * 15 * time_s)], axis=1)
    inputs = INPUTS.model_copy(
        update={
            "signals": {
                "eda": SignalSpec(channels=("skin",), rate_hz=10),
                "emg": SignalSpec(channels=("respiratory",), rate_hz=10),
            }
        }
    )
    facts = {"skin": {"Units": "siemens"}, "respiratory": {"Units": "Volt"}}

    # the recording is written with six decimals
    corpus = read_bids(bids(values=1000 * beating, facts=facts), inputs, ("low", "high"), "pain")

    np.testing.assert_allclose(corpus.modalities["eda"], np.log(5000), rtol=1e-4)
    # 0.2 V, less its mean over 5 samples, in which 15 Hz at 50 Hz has the opposite sign; rectified in ten phases
    beat = 200_000 * (1 + 1 / (5 * np.sin(0.3 * np.pi))) * np.abs(np.sin(np.arange(10) * 0.6 * np.pi)).mean()
    np.testing.assert_allclose(corpus.modalities["emg"][:, 0, 5:-5], np.log1p(beat), atol=0.01)
    assert corpus.notes == ("1 events of type cue were left out.",)


@pytest.mark.parametrize("unit", ["kOhm", "microsemens", "V", "volt", "MS", 3])
def test_a_unit_that_is_given_and_not_understood_is_one_sentence(bids: Writer, unit: object) -> None:
    root = bids(facts={"skin": {"Units": unit}, "respiratory": {"Units": unit}})
    sentence = (
        f"the JSON of sub-01_task-heat_physio.tsv.gz gives skin the unit {str(unit)!r}: expected siemens for eda, such "
        "as uS or microsiemens."
    )

    with pytest.raises(CorpusError, match=f"^{re.escape(sentence)}$"):  # and not for breath, which may have any
        read_bids(root, INPUTS, ("low", "high"), "pain")


@pytest.mark.parametrize("about", [None, {}, {"Units": None}, {"Units": ""}, {"Units": "n/a"}])
def test_a_unit_that_is_not_given_is_said(bids: Writer, about: dict[str, Any] | None) -> None:
    corpus = read_bids(bids(facts={"skin": about}), INPUTS, ("low", "high"), "pain")

    assert corpus.notes[-1] == "eda: no JSON gives the unit of skin in S: taken as millionths of it."


def test_a_unit_that_some_do_not_give_is_said_with_their_number(bids: Writer) -> None:
    bids("sub-01", facts={"skin": None})
    bids("sub-02")

    corpus = read_bids(bids("sub-03"), INPUTS, ("low", "high"), "pain")

    assert corpus.notes[-1] == "eda: no JSON of 1 of 3 runs gives the unit of skin in S: taken as millionths of it."


def test_short_gaps_are_filled_and_long_ones_leave_the_row_unobserved(bids: Writer) -> None:
    values = ramps()
    values[160:190, 0] = np.nan  # 0.6 s of the first event's 4 s
    values[450:520, 0] = np.nan  # 1.4 s of the second's

    corpus = read_bids(bids(values=values), INPUTS, ("low", "high"), "pain")

    assert corpus.observed("eda").tolist() == [True, False]
    assert np.isnan(corpus.modalities["eda"][1]).all()
    np.testing.assert_allclose(corpus.modalities["eda"][0, 0, 4:-4], np.log(4 + np.arange(40) / 10)[4:-4], atol=0.01)
    assert corpus.observed("breath").tolist() == [True, True]


def test_an_event_after_the_recordings_end_is_not_observed(bids: Writer) -> None:
    corpus = read_bids(bids(events="onset\ttrial_type\n1\tlow\n100\thigh\n"), INPUTS, ("low", "high"), "pain")

    assert corpus.observed("eda").tolist() == [True, False]


def test_events_that_are_not_observed_are_counted(bids: Writer) -> None:
    late = bids(events="onset\ttrial_type\n1\tlow\n6\thigh\n100\thigh\n")
    notes = read_bids(late, INPUTS, ("low", "high"), "pain").notes
    assert notes == ("1 of 3 events were not observed: they lie outside the recordings, or in a gap.",)

    in_ms = bids(events="onset\ttrial_type\n1000\tlow\n6000\thigh\n")
    with pytest.raises(CorpusError, match=r"^all 2 events lie outside the recordings of their runs, or in gaps: exp"):
        read_bids(in_ms, INPUTS, ("low", "high"), "pain")


def test_two_levels_at_one_time_would_be_two_labels_of_one_signal(bids: Writer) -> None:
    root = bids(events="onset\ttrial_type\n1\tlow\n1.0\tcue\n6\tlow\n1\thigh\n")

    with pytest.raises(
        CorpusError, match=r"^sub-01_task-heat_events\.tsv, line 5, has the onset 1 of line 2: expected"
    ):
        read_bids(root, INPUTS, ("low", "high"), "pain")
    assert check_bids(root)[0] == "1 runs of 1 people, 1 recordings that can be read"  # it knows no levels


def test_two_recordings_of_one_run_may_have_their_own_rates(bids: Writer) -> None:
    bids(run="task-heat_recording-slow", values=ramps()[:, :1], facts={"Columns": ["skin"]}, events=None)
    root = bids(
        run="task-heat_recording-breath", values=ramps()[::2, 1:], events=None,
        facts={"Columns": ["respiratory"], "SamplingFrequency": RATE_HZ / 2},
    )  # fmt: skip
    (root / "sub-01" / "func" / "sub-01_task-heat_events.tsv").write_text(EVENTS)

    corpus = read_bids(root, INPUTS, ("low", "high"), "pain")

    assert len(corpus) == 2
    time_s = np.arange(20) / 5
    np.testing.assert_allclose(corpus.modalities["breath"][1, 0, 3:-3], -(6 + time_s)[3:-3], atol=0.02)


def test_sessions_and_resting_runs_without_events_are_read(bids: Writer, tmp_path: Path) -> None:
    root = bids(run="task-rest", events=None)
    bids()
    (root / "sub-01" / "ses-1").mkdir()
    (root / "sub-01" / "func").rename(tmp_path / "sub-01" / "ses-1" / "func")

    assert len(read_bids(root, INPUTS, ("low", "high"), "pain")) == 2


@pytest.mark.parametrize(
    ("changes", "levels", "task", "sentence"),
    [
        ({"events": None}, "low high", "pain", "sub-01/func/sub-01_task-heat_events.tsv is missing: expected the"),
        ({"events": f'onset\ttrial_type\n1\t"{"x" * 200_000}\n'}, "low high", "pain", "events.tsv is no table (field"),
        ({"events": "onset\n1\n"}, "low high", "pain", "sub-01_task-heat_events.tsv has no column trial_type"),
        (
            {"events": "onset\ttrial_type\nsoon\tlow\n"}, "low high", "pain",
            "sub-01_task-heat_events.tsv, line 2, has the onset 'soon': expected seconds.",
        ),
        (
            {"events": "onset\ttrial_type\n1\tlow\n6\thigh\n1.0\tlow\n"}, "low high", "pain",
            "sub-01_task-heat_events.tsv, line 4, repeats line 2: expected each event once.",
        ),
        ({}, "low severe", "pain", "has the trial_type severe: there are low, high, cue."),
        ({}, "low", "pain", "needs corpus.levels: expected two trial types or more, in order."),
        ({}, "low high", "regression", "cannot serve regression: an event's trial_type is a level or a class."),
        ({"facts": {"Columns": ["a", "b"]}}, "low high", "pain", "inputs.signals.eda.channels: no recording has the"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    bids: Writer, changes: dict[str, Any], levels: str, task: Any, sentence: str
) -> None:
    root = bids(**changes)

    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_bids(root, INPUTS, levels.split(), task)


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no sub-\*/\*/\*_physio\.tsv\.gz: give the root of a BIDS data set"):
        read_bids(tmp_path, INPUTS, ("low", "high"), "pain")


def test_a_recording_in_another_persons_folder_is_named(bids: Writer) -> None:
    root = bids("sub-01")
    (root / "sub-01").rename(root / "sub-02")

    sentence = "sub-02/func/sub-01_task-heat_physio.tsv.gz is named after sub-01: expected a name with sub-02."
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_bids(root, INPUTS, ("low", "high"), "pain")


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("17", "0-17"),
        ("18", "18-35"),
        ("35.9", "18-35"),
        ("89+", "66-200"),
        ("n/a", "unknown"),
        ("nan", "unknown"),
        ("inf", "unknown"),
    ],
)
def test_ages_come_in_bands(age: str, band: str) -> None:
    assert age_band(age) == band

"""Physiology in BIDS: recordings with their JSON, and events as rows of a corpus."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.spec import InputSpec, SignalSpec
from training.corpora.bids import check_bids, read_bids
from training.corpora.bids_physio import read_physio
from training.corpora.bids_runs import age_band
from training.corpora.clip import CorpusError

Writer = Callable[..., Path]
RATE_HZ, START_S = 50.0, -2.0
INPUTS = InputSpec(
    window_s=4.0,
    hop_s=4.0,
    signals={
        "eda": SignalSpec(channels=("skin",), rate_hz=10),
        "breath": SignalSpec(channels=("respiratory",), rate_hz=5),
    },
)
EVENTS = "onset\tduration\ttrial_type\n1.0\t0\tlow\n6.0\t2\thigh\n11.0\t2\tn/a\n12.0\t2\tcue\n"


def ramps(n: int = 1000) -> NDArray[np.float64]:
    """20 s from -2 s on: skin conductance in volts of nothing, 3 + time; and breath, minus time."""
    time_s = np.arange(n) / RATE_HZ + START_S
    return np.stack([3 + time_s, -time_s], axis=1)


@pytest.fixture
def bids(tmp_path: Path) -> Writer:
    """Write a data set of one run: person, values (n, C), JSON, events."""

    def write(
        person: str = "sub-01",
        values: NDArray[np.float64] | None = None,
        facts: dict[str, Any] | None = None,
        events: str | None = EVENTS,
        run: str = "task-heat",
    ) -> Path:
        folder = tmp_path / person / "func"
        folder.mkdir(parents=True, exist_ok=True)
        table = ramps() if values is None else values
        lines = "\n".join("\t".join("n/a" if np.isnan(v) else f"{v:.6f}" for v in row) for row in table)
        (folder / f"{person}_{run}_physio.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        about = {"SamplingFrequency": RATE_HZ, "StartTime": START_S, "Columns": ["skin", "respiratory"]}
        units = {"skin": {"Units": "uS"}}
        described = {key: value for key, value in {**about, **units, **(facts or {})}.items() if value is not None}
        (folder / f"{person}_{run}_physio.json").write_text(json.dumps(described))
        if events is not None:
            (folder / f"{person}_{run}_events.tsv").write_text(events)
        return tmp_path

    return write


def physio(root: Path) -> Path:
    return next(root.glob("sub-*/func/*_physio.tsv.gz"))


def test_a_recording_is_read_with_its_json(bids: Writer) -> None:
    values = ramps()
    values[3, 1] = np.nan

    recording = read_physio(physio(bids(values=values)))

    assert recording.columns == ("skin", "respiratory")
    assert (recording.rate_hz, recording.start_s, recording.units) == (50.0, -2.0, {"skin": "uS"})
    assert recording.file == "sub-01_task-heat_physio.tsv.gz"
    assert recording.values.dtype == np.float64
    np.testing.assert_allclose(recording.values, values.T, atol=1e-6)


def test_json_files_above_are_inherited_and_the_nearer_one_wins(bids: Writer) -> None:
    root = bids()
    path = physio(root)
    (path.parent / "sub-01_task-heat_physio.json").write_text(json.dumps({"Columns": ["skin", "respiratory"]}))
    (root / "participants.tsv").write_text("participant_id\nsub-01\n")
    (root / "physio.json").write_text(json.dumps({"SamplingFrequency": 1, "StartTime": 5}))
    (root / "task-heat_physio.json").write_text(json.dumps({"SamplingFrequency": 25}))
    (root / "task-cold_physio.json").write_text(json.dumps({"SamplingFrequency": 99}))

    recording = read_physio(path)

    assert (recording.rate_hz, recording.start_s) == (25.0, 5.0)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"SamplingFrequency": None},
            "the JSON of sub-01_task-heat_physio.tsv.gz has no SamplingFrequency: expected a",
        ),
        ({"SamplingFrequency": "fast"}, "has no SamplingFrequency: expected a number"),
        ({"SamplingFrequency": 0}, "sub-01_task-heat_physio.json says SamplingFrequency 0: expected 1 to 100000 Hz."),
        ({"SamplingFrequency": 0.05}, "physio.json says SamplingFrequency 0.05: expected 1 to 100000 Hz."),
        ({"SamplingFrequency": 1e12}, "physio.json says SamplingFrequency 1e+12: expected 1 to 100000 Hz."),
        ({"StartTime": None}, "has no StartTime: expected a number"),
        ({"Columns": None}, "has no Columns: expected a list of the table's column names"),
        (
            {"Columns": ["skin", "skin"]},
            "the JSON of sub-01_task-heat_physio.tsv.gz names skin twice in Columns: expected each column once.",
        ),
        ({"Columns": ["skin"]}, "has 1000 lines of 2 finite numbers or n/a: expected 1 a line, and no header: skin."),
    ],
)
def test_a_json_that_does_not_fit_is_named(bids: Writer, facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_physio(physio(bids(facts=facts)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(b"skin\trespiratory\n1\t2\n", mtime=0), "holds something that is not a number or n/a"),
        (gzip.compress(b"1\t2\n3\n", mtime=0), "holds something that is not a number or n/a"),
        (gzip.compress(b"", mtime=0), "is empty: expected a line for each sample"),
        (gzip.compress(b"1\t2\n#3\t4\n5\t6\n", mtime=0), "holds something that is not a number or n/a: .*#3"),
        (gzip.compress(b"1\t2\n3\t4 # cough\n", mtime=0), "holds something that is not a number or n/a: .*cough"),
        (gzip.compress(b"1\t2\n" * 500, mtime=0)[:20], "cannot be read"),
        (b"1\t2\n", "cannot be read"),
    ],
)
def test_a_table_that_does_not_fit_is_named(bids: Writer, content: bytes, sentence: str) -> None:
    path = physio(bids())
    path.write_bytes(content)

    with pytest.raises(CorpusError, match=f"sub-01_task-heat_physio.tsv.gz {sentence}"):
        read_physio(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_empty_line_would_move_all_samples_after_it_and_is_named(bids: Writer, end: str) -> None:
    path = physio(bids())
    path.write_bytes(gzip.compress(end.join(["1\t2", "3\t4", "", "5\t6", ""]).encode(), mtime=0))

    with pytest.raises(CorpusError, match=r"physio\.tsv\.gz, line 3, is empty: expected a number or n/a in each"):
        read_physio(path)


def test_what_ends_the_last_line_is_no_sample(bids: Writer) -> None:
    path = physio(bids())
    path.write_bytes(gzip.compress(b"1\t2\r\n3\tn/a\r\n\r\n", mtime=0))

    np.testing.assert_array_equal(read_physio(path).values, [[1, 3], [2, np.nan]])


def test_a_byte_order_mark_is_no_part_of_the_first_sample(bids: Writer) -> None:
    path = physio(bids())
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf1\t2\n3\t4\n", mtime=0))

    np.testing.assert_array_equal(read_physio(path).values, [[1, 3], [2, 4]])


def test_the_json_that_says_an_impossible_rate_is_named_once_where_it_is_inherited(bids: Writer) -> None:
    bids("sub-02", values=ramps(900), facts={"SamplingFrequency": None})
    root = bids("sub-01", facts={"SamplingFrequency": None})
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    (root / "physio.json").write_text(json.dumps({"SamplingFrequency": 1e6}))

    lines = check_bids(root)

    assert lines[:2] == [
        "problem: physio.json says SamplingFrequency 1e+06: expected 1 to 100000 Hz.",
        "2 runs of 2 people, 0 recordings that can be read",
    ]


@pytest.mark.parametrize("rate_hz", [1.0, 100_000.0])
def test_the_lowest_and_the_highest_rate_are_read(bids: Writer, rate_hz: float) -> None:
    assert read_physio(physio(bids(facts={"SamplingFrequency": rate_hz}))).rate_hz == rate_hz


def test_a_window_that_holds_no_sample_is_one_sentence(bids: Writer) -> None:
    root = bids(facts={"SamplingFrequency": 1.0})
    short = InputSpec(window_s=0.4, hop_s=0.4, signals={"ecg": SignalSpec(channels=("skin",), rate_hz=10)})

    with pytest.raises(
        CorpusError, match=r"^inputs\.window_s is 0\.4: expected at least a sample of sub-01.*, at 1 Hz\.$"
    ):
        read_bids(root, short, ("low", "high"), "pain")


def test_a_recording_without_json_is_named(bids: Writer) -> None:
    path = physio(bids())
    (path.parent / "sub-01_task-heat_physio.json").unlink()

    with pytest.raises(
        CorpusError, match=r"physio\.tsv\.gz has no JSON: expected sub-01_task-heat_physio\.json beside"
    ):
        read_physio(path)


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


def test_the_check_compares_onsets_with_recordings(bids: Writer) -> None:
    name = "sub-01_task-heat_events.tsv"

    some = check_bids(bids(events="onset\ttrial_type\n-2\tlow\n17.9\thigh\n18\thigh\n"))
    every = check_bids(bids(events="onset\ttrial_type\n1000\tlow\n6000\thigh\n"))

    outside = "events begin outside the recordings, which last from -2 to 18 s; the first has the onset"
    assert some[0] == f"note: {name}: 1 of 3 {outside} 18."
    assert every[0] == f"problem: {name}: 2 of 2 {outside} 1000."


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

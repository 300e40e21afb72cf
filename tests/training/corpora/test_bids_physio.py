"""Recordings of BIDS physiology: a table and its JSON, and what does not fit."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.corpora.bids import check_bids
from training.corpora.bids_physio import read_physio
from training.corpora.clip import CorpusError

from .bids_set import ramps

Writer = Callable[..., Path]


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


def test_a_recording_without_json_is_named(bids: Writer) -> None:
    path = physio(bids())
    (path.parent / "sub-01_task-heat_physio.json").unlink()

    with pytest.raises(
        CorpusError, match=r"physio\.tsv\.gz has no JSON: expected sub-01_task-heat_physio\.json beside"
    ):
        read_physio(path)

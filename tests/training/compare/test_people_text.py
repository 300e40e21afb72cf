"""Scores of a table's people and groups, by hand."""

import csv
from pathlib import Path

import numpy as np

from training.compare.people_text import write_people
from training.scores.predictions import Predictions

STAMP = ("NOT SUBJECT-INDEPENDENT: 5 folds by clip.", "A note.")


def answers(*given: int) -> Predictions:
    """Of a, b and c, two clips each, the first of class 0 and the second of class 1."""
    person, truth = np.repeat(["a", "b", "c"], 2), np.tile([0, 1], 3)
    item = np.array([f"{who} {i}" for i, who in enumerate(person)])
    return Predictions("classification", ("no", "yes"), person, item, truth, np.eye(2)[list(given)])


def lines_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def test_people_and_groups_have_the_mean_over_seeds_with_how_many_they_are_and_the_protocol(tmp_path: Path) -> None:
    seeds = [answers(0, 1, 0, 1, 1, 0), answers(0, 1, 0, 0, 0, 0)]  # a is always right, b once not, c once never
    groups = {"a": {"sex": "female"}, "b": {"sex": "female"}, "c": {"sex": "male"}}

    write_people({"KD (face)": seeds}, groups, STAMP, tmp_path)

    people, by_group = (lines_of(tmp_path / f"{name}.csv") for name in ("people", "groups"))
    stamp = " ".join(STAMP)
    assert people == [
        {"row": "KD (face)", "person": who, "score": score, "items": "2", "protocol": stamp}
        for who, score in (("a", "1.0"), ("b", "0.75"), ("c", "0.25"))
    ]
    common = {"row": "KD (face)", "protocol": stamp}
    of_sex = common | {"attribute": "sex", "worst": "male", "gap": "0.625"}
    assert by_group[:2] == [
        of_sex | {"group": "female", "score": "0.875", "low": "0.75", "high": "1.0", "people": "2", "items": "4"},
        of_sex | {"group": "male", "score": "0.25", "low": "", "high": "", "people": "1", "items": "2"},
    ]
    (age,) = by_group[2:]
    assert age | {"low": "", "high": ""} == common | {
        "attribute": "age", "group": "unknown", "score": str(np.mean([1.0, 0.75, 0.25])), "low": "", "high": "",
        "people": "3", "items": "6", "worst": "", "gap": "",
    }  # fmt: skip

"""A table's headline score of each person, and of each group of people, as CSV."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from training.scores.groups import scores_by_group
from training.scores.metrics import score_by_person
from training.scores.predictions import Predictions
from training.scores.statistics import average_over_runs

PEOPLE = ("row", "person", "score", "items", "protocol")
GROUPS = ("row", "attribute", "group", "score", "low", "high", "people", "items", "worst", "gap", "protocol")

Results = Mapping[str, Sequence[Predictions]]
Groups = Mapping[str, Mapping[str, str]]
"""Person to attribute to group."""


def write_people(results: Results, groups: Groups, sentences: Sequence[str], folder: Path) -> None:
    """Write people.csv and groups.csv: scores are averaged over seeds, intervals are 95 % over people.

    `worst` and `gap` are of an attribute, over groups that are known; empty where there are fewer than two.
    """
    protocol = " ".join(sentences)
    scores = {row: average_over_runs([_by_person(one) for one in said]) for row, said in results.items()}
    items = {row: Counter(said[0].person.tolist()) for row, said in results.items()}
    people = (
        {"row": row, "person": who, "score": score, "items": items[row][who]}
        for row, own in scores.items()
        for who, score in own.items()
    )
    _write(folder / "people.csv", PEOPLE, people, protocol)
    of_groups = (line for row in results for line in _group_lines(row, scores[row], items[row], groups))
    _write(folder / "groups.csv", GROUPS, of_groups, protocol)


def _by_person(said: Predictions) -> dict[str, float]:
    return score_by_person(said.task, said.said, said.truth, said.person)


def _group_lines(
    row: str, scores: Mapping[str, float], items: Mapping[str, int], groups: Groups
) -> Iterator[dict[str, object]]:
    for attribute, report in scores_by_group(scores, items, groups).items():
        for group, one in report.groups.items():
            low, high = one.interval or (None, None)
            yield {
                "row": row, "attribute": attribute, "group": group, "score": one.score, "low": low, "high": high,
                "people": one.people, "items": one.clips, "worst": report.worst, "gap": report.gap,
            }  # fmt: skip


def _write(file: Path, columns: Sequence[str], lines: Iterable[dict[str, object]], protocol: str) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({**line, "protocol": protocol} for line in lines)

"""The table of methods: means over seeds, intervals and tests over people.

The unit is the person: a person's score is averaged over seeds, then people are compared with themselves.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.spec import Task
from training.compare.failures import Failure
from training.scores.concordance import person_moments, pooled_ccc
from training.scores.intervals import score_intervals
from training.scores.metrics import score_by_person
from training.scores.predictions import Predictions, answered_in_all
from training.scores.statistics import (
    FEWEST_SEEDS,
    Comparison,
    Interval,
    average_over_runs,
    bootstrap_ccc,
    bootstrap_mean,
    compare_ccc,
    compare_scores,
    holm,
)

Floats = NDArray[np.float64]
Results = Mapping[str, Sequence[Predictions]]

REFERENCE = "student without privileged"
"""Lower bound B."""
FIXED = (("PKDOT balanced", REFERENCE), ("PKDOT balanced", "KD"), ("KD + PKDOT", "KD"))
"""The comparisons that are fixed in advance; all others come with intervals and without tests."""
CONTROLS = (("PKDOT balanced", "PKDOT from labels"), ("PKDOT balanced", "PKDOT from prevalent"))
"""What PKDOT has to beat before it is said to transfer privileged structure."""
UNBALANCED: Final = 1.5
"""Balanced accuracy stands beside accuracy where the most frequent label has more than so often its equal share."""


class RowResult(NamedTuple):
    """One row."""

    scores: dict[str, tuple[float, float | None]]
    """Mean and standard deviation over seeds of each score, pooled over everybody; one seed has no deviation."""
    headline: float
    """pain, classification: the mean of people's accuracies; values: the pooled CCC. Averaged over seeds."""
    interval: Interval | None
    """95 %, over people."""
    less_reference: Comparison | None
    """This row less lower bound B, not tested."""
    intervals: dict[str, Interval | None]
    """Of each of `scores` but counts: 95 %, over people."""


class Block(NamedTuple):
    """The rows once more, on the test items that every row answered."""

    items: int
    of: int
    """All test items."""
    rows: dict[str, RowResult]

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"On the {self.items} of {self.of} items that every row answered"


class FixedComparison(NamedTuple):
    """One of the tests that were fixed in advance."""

    a: str
    b: str
    found: Comparison
    adjusted_p: float | None
    """Holm's, over all fixed comparisons of the table."""


class ControlComparison(NamedTuple):
    """PKDOT less a control that knows no privileged signal, not tested."""

    a: str
    b: str
    found: Comparison


@dataclass(frozen=True)
class Table:
    """One recipe's results."""

    name: str
    task: Task
    seeds: int
    people: int
    unbalanced: bool
    """Whether the most frequent label has more than 1.5 times its equal share of the test items."""
    sentences: tuple[str, ...]
    """How they came about: protocol, standardisation, share of labels."""
    rows: dict[str, RowResult]
    common: Block | None
    """None where every row answered all items, or no item was answered by all."""
    fixed: tuple[FixedComparison, ...]
    controls: tuple[ControlComparison, ...]
    failures: Mapping[str, Failure]
    """Rows that have no score."""


def headline_scores(task: Task, scores: Collection[str], *, unbalanced: bool) -> list[str]:
    """The columns of the task, of those `scores` that a row has."""
    if task == "pain":
        balanced = ("balanced_accuracy",) if unbalanced else ()
        return [name for name in ("accuracy", *balanced, "accuracy_lowest_highest", "qwk") if name in scores]
    if task == "classification":
        return ["accuracy", "balanced_accuracy", "macro_f1"]
    return [name for name in scores if name.startswith("ccc_")]


def make_table(
    name: str, results: Results, sentences: Sequence[str], failures: Mapping[str, Failure] = MappingProxyType({})
) -> Table:
    """All rows, each with its difference to lower bound B of the same student, fixed comparisons, and controls."""
    first = next(iter(results.values()))
    runs = {row: _Runs.of(said) for row, said in results.items()}
    tested = len(first) >= FEWEST_SEEDS
    return Table(
        name=name,
        task=first[0].task,
        seeds=len(first),
        people=len(np.unique(first[0].person)),
        unbalanced=_unbalanced(first[0]),
        sentences=tuple(sentences),
        rows={row: _row(row, results[row], runs) for row in results},
        common=_common(results),
        fixed=tuple(FixedComparison(a, b, runs[a].less(runs[b], tested=tested), None) for a, b in _both(FIXED, runs)),
        controls=tuple(ControlComparison(a, b, runs[a].less(runs[b], tested=False)) for a, b in _both(CONTROLS, runs)),
        failures=dict(failures),
    )


def adjusted(tables: Sequence[Table]) -> list[Table]:
    """The tables with the fixed comparisons' p-values adjusted over all of them together (Holm)."""
    everything = [one.found.p_value for table in tables for one in table.fixed]
    values = iter(holm(everything))
    return [
        Table(**{**vars(table), "fixed": tuple(one._replace(adjusted_p=next(values)) for one in table.fixed)})
        for table in tables
    ]


class _Runs(NamedTuple):
    """What comparisons over people need of one row's seeds."""

    people: dict[str, float] | None
    """Each person's accuracy, averaged over seeds; None where the score is pooled."""
    moments: Floats | None
    """Of each seed, output and person, (S, C, P, 6), for the pooled CCC."""

    @staticmethod
    def of(said: Sequence[Predictions]) -> "_Runs":
        if said[0].task in ("pain", "classification"):
            scores = [score_by_person(one.task, one.said, one.truth, one.person) for one in said]
            return _Runs(average_over_runs(scores), None)
        return _Runs(
            None,
            np.stack(
                [
                    [
                        person_moments(one.said[:, c], one.truth[:, c].astype(np.float64), one.person)
                        for c in range(one.said.shape[1])
                    ]
                    for one in said
                ]
            ),
        )

    def mean(self) -> tuple[float, Interval | None]:
        if self.people is not None:
            values = np.array(list(self.people.values()))
            return float(values.mean()), bootstrap_mean(values)
        assert self.moments is not None
        return float(pooled_ccc(np.ones((1, self.moments.shape[-2])), self.moments)[0]), bootstrap_ccc(self.moments)

    def less(self, other: "_Runs", *, tested: bool) -> Comparison:
        if self.people is not None and other.people is not None:
            return compare_scores(self.people, other.people, tested=tested)
        assert self.moments is not None
        assert other.moments is not None
        return compare_ccc(self.moments, other.moments, tested=tested)


def _row(row: str, said: Sequence[Predictions], runs: Mapping[str, _Runs]) -> RowResult:
    by_seed = [one.scores() for one in said]
    scores = {
        name: (
            float(np.mean([one[name] for one in by_seed])),
            float(np.std([one[name] for one in by_seed], ddof=1)) if len(by_seed) > 1 else None,
        )
        for name in by_seed[0]
    }
    headline, interval = runs[row].mean()
    reference = f"{REFERENCE} {_student(row)}"
    less = runs[row].less(runs[reference], tested=False) if reference in runs and reference != row else None
    return RowResult(scores, headline, interval, less, score_intervals(said))


def _both(pairs: Sequence[tuple[str, str]], rows: Collection[str]) -> list[tuple[str, str]]:
    """The pairs of methods as pairs of rows, of each student that has both."""
    named = [(f"{a} {s}", f"{b} {s}") for s in dict.fromkeys(map(_student, rows)) for a, b in pairs]
    return [(a, b) for a, b in named if a in rows and b in rows]


def _student(row: str) -> str:
    """What the row's student has, "(face)"; empty for a row that has no student."""
    return row[row.rindex("(") :] if row.endswith(")") else ""


def _common(results: Results) -> Block | None:
    answered = answered_in_all([one for said in results.values() for one in said])
    if answered.all() or not answered.any():
        return None
    chosen = {row: [one.pick(answered) for one in said] for row, said in results.items()}
    runs = {row: _Runs.of(said) for row, said in chosen.items()}
    rows = {row: _row(row, said, runs) for row, said in chosen.items()}
    return Block(int(answered.sum()), len(answered), rows)


def _unbalanced(said: Predictions) -> bool:
    if said.task not in ("pain", "classification"):
        return False
    counts = np.bincount(said.truth.astype(np.int64), minlength=len(said.names))
    return bool(counts.max() > UNBALANCED * counts.sum() / len(said.names))

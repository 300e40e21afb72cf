"""The table of methods: means over seeds, intervals and tests over people, as CSV, Markdown and LaTeX.

The unit is the person: a person's score is averaged over seeds, then people are compared with themselves.
"""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.spec import Task
from training.concordance import person_moments, pooled_ccc
from training.failures import Failure
from training.metrics import score_by_person
from training.predictions import Predictions
from training.statistics import (
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


class RowResult(NamedTuple):
    """One row."""

    scores: dict[str, tuple[float, float]]
    """Mean and standard deviation over seeds of each score, pooled over everybody."""
    headline: float
    """pain, classification: the mean of people's accuracies; values: the pooled CCC. Averaged over seeds."""
    interval: Interval | None
    """95 %, over people."""
    less_reference: Comparison | None
    """This row less lower bound B."""


class FixedComparison(NamedTuple):
    """One of the tests that were fixed in advance."""

    a: str
    b: str
    found: Comparison
    adjusted_p: float | None
    """Holm's, over all fixed comparisons of the table."""


@dataclass(frozen=True)
class Table:
    """One recipe's results."""

    name: str
    task: Task
    seeds: int
    people: int
    sentences: tuple[str, ...]
    """How they came about: protocol, standardisation, share of labels."""
    rows: dict[str, RowResult]
    fixed: tuple[FixedComparison, ...]
    failures: Mapping[str, Failure]
    """Rows that have no score."""


def headline_scores(task: Task, scores: Collection[str]) -> list[str]:
    """The columns of the task, of those `scores` that a row has."""
    if task == "pain":
        return [name for name in ("accuracy", "accuracy_lowest_highest", "qwk") if name in scores]
    if task == "classification":
        return ["accuracy", "balanced_accuracy", "macro_f1"]
    return [name for name in scores if name.startswith("ccc_")]


def make_table(
    name: str, results: Results, sentences: Sequence[str], failures: Mapping[str, Failure] = MappingProxyType({})
) -> Table:
    """All rows, each with its difference to lower bound B of the same student, and the fixed comparisons."""
    first = next(iter(results.values()))
    runs = {row: _Runs.of(said) for row, said in results.items()}
    rows = {row: _row(row, results[row], runs) for row in results}
    found = [
        (f"{a} {student}", f"{b} {student}")
        for student in dict.fromkeys(row[row.rindex("(") :] for row in results)
        for a, b in FIXED
        if f"{a} {student}" in runs and f"{b} {student}" in runs
    ]
    comparisons = [runs[a].less(runs[b]) for a, b in found]
    return Table(
        name=name,
        task=first[0].task,
        seeds=len(first),
        people=len(np.unique(first[0].person)),
        sentences=tuple(sentences),
        rows=rows,
        fixed=tuple(
            FixedComparison(a, b, comparison, None) for (a, b), comparison in zip(found, comparisons, strict=True)
        ),
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

    def less(self, other: "_Runs") -> Comparison:
        if self.people is not None and other.people is not None:
            return compare_scores(self.people, other.people)
        assert self.moments is not None
        assert other.moments is not None
        return compare_ccc(self.moments, other.moments)


def _row(row: str, said: Sequence[Predictions], runs: Mapping[str, _Runs]) -> RowResult:
    by_seed = [one.scores() for one in said]
    scores = {
        name: (
            float(np.mean([one[name] for one in by_seed])),
            float(np.std([one[name] for one in by_seed], ddof=1)) if len(by_seed) > 1 else 0.0,
        )
        for name in by_seed[0]
    }
    headline, interval = runs[row].mean()
    reference = f"{REFERENCE} {row[row.rindex('(') :]}"
    less = runs[row].less(runs[reference]) if reference in runs and reference != row else None
    return RowResult(scores, headline, interval, less)


def write_csv(table: Table, file: Path) -> None:
    """One line for each row and score."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "score", "mean", "sd_over_seeds", "low", "high", "protocol"])
        protocol = " ".join(table.sentences)
        for name, row in table.rows.items():
            low, high = row.interval or ("", "")
            writer.writerow([name, "headline", row.headline, "", low, high, protocol])
            writer.writerows([name, score, mean, sd, "", "", protocol] for score, (mean, sd) in row.scores.items())
            if row.less_reference is not None:
                low, high = row.less_reference.interval or ("", "")
                writer.writerow([name, "less_lower_bound_B", row.less_reference.difference, "", low, high, protocol])
        writer.writerows([name, one.place, "", "", "", "", protocol] for name, one in table.failures.items())


def markdown(table: Table) -> str:
    """The table with its sentences above, and its notes below."""
    return render(table, _markdown_table)


def latex(table: Table) -> str:
    """The same as a LaTeX tabular (needs the package booktabs); what stands below the table are comments."""
    return render(table, _latex_table)


def render(table: Table, draw: Callable[[Table, list[str], list[list[str]]], str]) -> str:
    """What `draw` makes of the table, the names of its columns, and its rows, each a name and its cells."""
    columns = headline_scores(table.task, next(iter(table.rows.values())).scores)
    head = ["row", *columns, "by person" if table.task in ("pain", "classification") else "pooled", "less bound B"]
    body = [
        [
            name,
            *(_cell(row.scores[column]) for column in columns),
            _with_interval(row.headline, row.interval),
            _difference(row.less_reference),
        ]
        for name, row in table.rows.items()
    ]
    body += [[name, *("–" for _ in columns), failure.place, "–"] for name, failure in table.failures.items()]
    return draw(table, head, body)


def _markdown_table(table: Table, head: list[str], body: list[list[str]]) -> str:
    lines = [f"**{table.name}**: {table.seeds} seeds, {table.people} people. {' '.join(table.sentences)}", ""]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *(f"| {' | '.join(row)} |" for row in body)]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in notes(table)), ""])


def _latex_table(table: Table, head: list[str], body: list[list[str]]) -> str:
    def escaped(row: list[str]) -> str:
        text = " & ".join(row).replace("_", r"\_").replace("±", r"$\pm$").replace("−", "$-$").replace("%", r"\%")
        return text + r" \\"

    said = " ".join((f"{table.name}: {table.seeds} seeds, {table.people} people.", *table.sentences))
    lines = [f"% {sentence}" for sentence in notes(table)]
    note = rf"\multicolumn{{{len(head)}}}{{p{{\linewidth}}}}{{\footnotesize {escaped([said])[:-3]}}} \\"
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", escaped(head), r"\midrule"]
    return "\n".join([*lines, *map(escaped, body), r"\bottomrule", note, r"\end{tabular}", ""])


def notes(table: Table) -> list[str]:
    """What stands below the table: the fixed comparisons, and why rows have no score."""
    return [*fixed_sentences(table), *(failure.sentence(row) for row, failure in table.failures.items())]


def fixed_sentences(table: Table) -> list[str]:
    """One for each comparison that was fixed in advance."""
    sentences = []
    for one in table.fixed:
        text = f"{one.a} less {one.b}: {_difference(one.found)} over {one.found.people} people"
        if one.found.p_value is None:
            text += "; too few people for a test"
        else:
            adjusted_p = "" if one.adjusted_p is None else f", {one.adjusted_p:.3f} after Holm"
            text += f"; p = {one.found.p_value:.3f}{adjusted_p}"
            text += "" if one.found.wilcoxon_p is None else f" (Wilcoxon {one.found.wilcoxon_p:.3f})"
        sentences.append(text)
    return sentences


def _cell(score: tuple[float, float]) -> str:
    return f"{score[0]:.3f} ± {score[1]:.3f}"


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def _difference(found: Comparison | None) -> str:
    if found is None:
        return "–"
    interval = f" [{found.interval.low:+.3f}, {found.interval.high:+.3f}]" if found.interval else ""
    return f"{found.difference:+.3f}{interval}"

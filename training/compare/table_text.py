"""A table as CSV, Markdown and LaTeX, and the cells from which its page is made."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from training.compare.table import RowResult, Table, headline_scores
from training.scores.statistics import FEWEST_SEEDS, Comparison, Interval

COLUMNS = ("row", "score", "mean", "sd_over_seeds", "low", "high", "protocol", "items", "p_value", "p_holm")
ALL, COMMON = "all", "answered by every row"
LATEX: Final = str.maketrans(
    {
        **{character: rf"\{character}" for character in "&#$%_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "−": "$-$",
    }
)
"""What stands in LaTeX's text for a character that is a command there, or another one's place in its oldest fonts."""
MARKDOWN: Final = str.maketrans({"\\": r"\\", "|": r"\|"})
"""The same in a cell of a Markdown table."""


class Cells(NamedTuple):
    """What stands in the table."""

    head: list[str]
    """The names of the columns."""
    rows: list[list[str]]
    """Each a name and its cells."""
    common: list[list[str]]
    """The rows on the items that every row answered; empty where there is no such block."""


def write_csv(table: Table, file: Path) -> None:
    """A line for each row and score, fixed comparison and control; what is not known, or not tested, is empty."""
    protocol = " ".join(table.sentences)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows({"protocol": protocol, **line} for line in _csv_lines(table))


def _csv_lines(table: Table) -> Iterator[dict[str, object]]:
    yield from _csv_rows(table.rows, ALL)
    for one in table.fixed:
        line = _csv_line(one.a, f"less {one.b}", one.found.difference, one.found.interval, ALL)
        yield line | {"p_value": one.found.p_value, "p_holm": one.adjusted_p}
    for control in table.controls:
        yield _csv_line(control.a, f"less {control.b}", control.found.difference, control.found.interval, ALL)
    for name, failure in table.failures.items():
        yield {"row": name, "score": failure.place}
    if table.common is not None:
        yield from _csv_rows(table.common.rows, COMMON)


def _csv_rows(rows: Mapping[str, RowResult], items: str) -> Iterator[dict[str, object]]:
    for name, row in rows.items():
        yield _csv_line(name, "headline", row.headline, row.interval, items)
        for score, (mean, sd) in row.scores.items():
            yield _csv_line(name, score, mean, row.intervals.get(score), items) | {"sd_over_seeds": sd}
        if (less := row.less_reference) is not None:
            yield _csv_line(name, "less_lower_bound_B", less.difference, less.interval, items)


def _csv_line(row: str, score: str, mean: float, interval: Interval | None, items: str) -> dict[str, object]:
    low, high = interval or (None, None)
    return {"row": row, "score": score, "mean": mean, "low": low, "high": high, "items": items}


def markdown(table: Table) -> str:
    """The table with its sentences above, and its notes below."""
    cells = cells_of_table(table)
    lines = [f"**{table.name}**: {table.seeds} seeds, {table.people} people. {' '.join(table.sentences)}", ""]
    lines += _markdown_rows(cells.head, cells.rows)
    if table.common is not None:
        lines += ["", f"{table.common.title}:", "", *_markdown_rows(cells.head, cells.common)]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in notes(table)), ""])


def _markdown_rows(head: list[str], rows: list[list[str]]) -> list[str]:
    first, *others = (f"| {' | '.join(cell.translate(MARKDOWN) for cell in row)} |" for row in (head, *rows))
    return [first, "| --- " * len(head) + "|", *others]


def latex(table: Table) -> str:
    """The same as a LaTeX tabular (needs the package booktabs); what stands below the table are comments."""
    cells = cells_of_table(table)
    wide = len(cells.head)
    said = " ".join((f"{table.name}: {table.seeds} seeds, {table.people} people.", *table.sentences))
    lines = [f"% {sentence}" for sentence in notes(table)]
    lines += [rf"\begin{{tabular}}{{l{'r' * (wide - 1)}}}", r"\toprule", _latex_row(cells.head), r"\midrule"]
    lines += map(_latex_row, cells.rows)
    if table.common is not None:
        lines += [
            r"\midrule",
            rf"\multicolumn{{{wide}}}{{l}}{{{table.common.title.translate(LATEX)}}} \\",
            r"\midrule",
        ]
        lines += map(_latex_row, cells.common)
    note = rf"\multicolumn{{{wide}}}{{p{{\linewidth}}}}{{\footnotesize {said.translate(LATEX)}}} \\"
    return "\n".join([*lines, r"\bottomrule", note, r"\end{tabular}", ""])


def _latex_row(row: list[str]) -> str:
    return " & ".join(cell.translate(LATEX) for cell in row) + r" \\"


def cells_of_table(table: Table) -> Cells:
    """Every cell as text."""
    scores = next(iter(table.rows.values())).scores
    columns = headline_scores(table.task, scores, unbalanced=table.unbalanced)
    head = ["row", *columns, "by person" if table.task in ("pain", "classification") else "pooled", "less bound B"]
    failed = [[name, *("–" for _ in columns), failure.place, "–"] for name, failure in table.failures.items()]
    common = _row_cells(table.common.rows, columns) if table.common is not None else []
    return Cells(head, _row_cells(table.rows, columns) + failed, common)


def _row_cells(rows: Mapping[str, RowResult], columns: list[str]) -> list[list[str]]:
    return [
        [
            name,
            *(_with_deviation(*row.scores[column]) for column in columns),
            _with_interval(row.headline, row.interval),
            _difference(row.less_reference),
        ]
        for name, row in rows.items()
    ]


def notes(table: Table) -> list[str]:
    """What stands below the table: the fixed comparisons, the controls, and why rows have no score."""
    controls = (
        f"{one.a} less {one.b}: {_difference(one.found)} over {one.found.people} people; a control, not tested"
        for one in table.controls
    )
    return [*fixed_sentences(table), *controls, *(failure.sentence(row) for row, failure in table.failures.items())]


def fixed_sentences(table: Table) -> list[str]:
    """One for each comparison that was fixed in advance."""
    sentences = []
    for one in table.fixed:
        text = f"{one.a} less {one.b}: {_difference(one.found)} over {one.found.people} people"
        if one.found.p_value is None:
            text += _why_untested(table)
        else:
            adjusted_p = "" if one.adjusted_p is None else f", {_probability(one.adjusted_p)} after Holm"
            p = _probability(one.found.p_value)
            text += f"; p {p if p.startswith('<') else f'= {p}'}{adjusted_p}"
            text += "" if one.found.wilcoxon_p is None else f" (Wilcoxon {_probability(one.found.wilcoxon_p)})"
        sentences.append(text)
    return sentences


def _probability(p: float) -> str:
    """Three places; none is 0, however small."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def _why_untested(table: Table) -> str:
    if table.seeds < FEWEST_SEEDS:
        return f"; fewer than {FEWEST_SEEDS} seeds: no test"
    return "; too few people for a test"


def _with_deviation(mean: float, sd: float | None) -> str:
    return f"{mean:z.3f}" + ("" if sd is None else f" ± {sd:.3f}")


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:z.3f}" + (f" [{interval.low:z.3f}, {interval.high:z.3f}]" if interval else "")


def _difference(found: Comparison | None) -> str:
    if found is None:
        return "–"
    interval = f" [{found.interval.low:+.3f}, {found.interval.high:+.3f}]" if found.interval else ""
    return f"{found.difference:+.3f}{interval}"

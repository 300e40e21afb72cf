"""From recipes to files: run the comparison of each, adjust the tests over all of them, write tables and pictures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from training.compare.cells import cell_folder, protocol_sentences
from training.compare.compare import CONSTANT, TEACHER, Compared, compare, plan, rows_of
from training.compare.page import write_page
from training.compare.people_text import write_people
from training.compare.plots import draw_ablations, draw_bars, draw_calibration, draw_matrices
from training.compare.table import FIXED, Table, adjusted, make_table
from training.compare.table_text import latex, markdown, write_csv
from training.config import RunConfig

CALIBRATED: Final = 8
"""More curves in one picture cannot be told apart."""
PLOTS: Final = ("rows.png", "ablations.png", "calibration.png", "matrices-*.png")


class Report(NamedTuple):
    """What `pkdot compare` prints."""

    text: str
    data: dict[str, Any]
    failures: list[str]
    """A sentence for each row that did not converge everywhere."""


def compare_all(
    configs: Sequence[RunConfig],
    out: Path,
    seeds: Sequence[int],
    methods: Sequence[str],
    *,
    folds: int | None,
    jobs: int,
) -> Report:
    """Run what is not done yet of all recipes, of which the last is looked at before the first is trained.

    `out`/NAME gets table.csv, table.md, table.tex, people.csv, groups.csv, plots/ and report.html.
    """
    plans = [plan(config, out / config.name, seeds, methods, folds=folds) for config in configs]
    everything = {planned.name: compare(planned, jobs=jobs) for planned in plans}
    tables = [
        make_table(
            config.name,
            everything[config.name].results,
            protocol_sentences(out / config.name, everything[config.name].cells),
            everything[config.name].failures,
        )
        for config in configs
    ]
    tables = adjusted(tables)
    for config, table in zip(configs, tables, strict=True):
        path, compared = out / config.name, everything[config.name]
        write_csv(table, path / "table.csv")
        write_people(compared.results, compared.groups, table.sentences, path)
        (path / "table.md").write_text(markdown(table), encoding="utf-8")
        (path / "table.tex").write_text(latex(table), encoding="utf-8")
        _draw(config, table, compared, path, methods)
        write_page(table, path / "plots", path / "report.html")
    return Report(
        text="\n".join(markdown(table) for table in tables),
        data={table.name: asdict(table) for table in tables},
        failures=[
            f"{table.name}: {failure.sentence(row)}" for table in tables for row, failure in table.failures.items()
        ],
    )


def rows_for_calibration(rows: Sequence[str]) -> list[str]:
    """At most eight of the rows, in their order: the teacher and those of the fixed comparisons before any others."""
    first = (TEACHER, "PKDOT", *(method for pair in FIXED for method in pair))
    possible = [row for row in rows if row != CONSTANT and not row.startswith("ablation")]
    chosen = sorted(possible, key=lambda row: row.rpartition(" (")[0] not in first)[:CALIBRATED]
    return [row for row in possible if row in chosen]


def _draw(config: RunConfig, table: Table, compared: Compared, path: Path, methods: Sequence[str]) -> None:
    plots = path / "plots"
    plots.mkdir(exist_ok=True)
    for earlier in (file for pattern in PLOTS for file in plots.glob(pattern)):
        earlier.unlink()  # of rows that are not in this table, perhaps of other seeds
    draw_bars(table, plots / "rows.png")
    draw_ablations(table, plots / "ablations.png")
    shown = {name: compared.results[name] for name in rows_for_calibration(list(compared.results))}
    draw_calibration(table, shown, plots / "calibration.png")
    for row in rows_of(config, methods):
        file = cell_folder(path, compared.cells[0]) / f"matrices-{row.file}.npz"
        if file.exists() and not row.method.startswith("ablation"):
            with np.load(file, allow_pickle=False) as arrays:
                draw_matrices(table, [arrays[name] for name in arrays.files], row.name, plots / f"{file.stem}.png")

"""Pictures of a table: bars, ablation curves, similarities and coupling, and calibration.

Each says above how its people were dealt, and what every result must name, since it may be shown alone.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.compare.table import RowResult, Table
from training.scores.predictions import Predictions

Floats = NDArray[np.float64]
NAMED = re.compile(
    r"Standardised by person|Facial EMG|The faces of \d+ of|[\d.e-]+% of the labels|\d+ of \d+ recordings have windows"
)
"""How those notes begin that no result may be without."""
ABLATION = re.compile(r"^ablation (?P<setting>\w+)=(?P<value>[\d.]+)(?P<how>, [^(]*)? \((?P<student>.*)\)$")


def draw_bars(table: Table, file: Path) -> None:
    """Each row's headline with its interval over people; ablations have a picture of their own."""
    rows = {name: row for name, row in table.rows.items() if not name.startswith("ablation")}
    figure = Figure(figsize=(7, 0.28 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [row.headline for row in rows.values()], color="0.75")
    for place, row in zip(places, rows.values(), strict=True):
        if row.interval is not None:
            axes.plot(row.interval, (place, place), color="black", linewidth=1)
    axes.set_yticks(places, list(rows))
    axes.set_xlabel(_headline(table))
    _save(figure, table, file)


def draw_ablations(table: Table, file: Path) -> bool:
    """One curve for each setting that was varied; nothing is drawn, and False returned, where none was."""
    curves: dict[tuple[str, str], list[tuple[float, RowResult]]] = {}
    for name, row in table.rows.items():
        if match := ABLATION.match(name):
            key = (match["setting"], f"{match['student']}{match['how'] or ''}")
            curves.setdefault(key, []).append((float(match["value"]), row))
    if not curves:
        return False
    settings = list(dict.fromkeys(setting for setting, _ in curves))
    figure = Figure(figsize=(3.2 * len(settings), 3), layout="constrained")
    for axes, setting in zip(np.atleast_1d(figure.subplots(1, len(settings))), settings, strict=True):
        tried: set[float] = set()
        for (which, how), points in curves.items():
            if which == setting:
                values, rows = zip(*sorted(points, key=lambda point: point[0]), strict=True)
                axes.plot(values, [row.headline for row in rows], marker="o", label=how)
                tried.update(values)
        axes.set_xscale("log")
        axes.set_xticks(sorted(tried), [f"{value:g}" for value in sorted(tried)])
        axes.minorticks_off()
        axes.set_xlabel(setting)
        axes.legend(fontsize=6)
    figure.supylabel(_headline(table), fontsize="medium")
    _save(figure, table, file)
    return True


def draw_matrices(table: Table, matrices: Sequence[NDArray[np.generic]], name: str, file: Path) -> None:
    """The teacher's and the student's similarities (B, B) and the coupling (B, B), samples in the order of targets."""
    teacher, student, plan, targets = matrices
    order = np.argsort(targets if targets.ndim == 1 else targets[:, 0], kind="stable")
    figure = Figure(figsize=(9, 3), layout="constrained")
    titles = ("teacher", "student", "coupling")
    for axes, values, title in zip(figure.subplots(1, 3), (teacher, student, plan), titles, strict=True):
        image = axes.imshow(values[np.ix_(order, order)], cmap="viridis")
        figure.colorbar(image, ax=axes, shrink=0.7)
        axes.set_title(title, fontsize=8)
    figure.supxlabel(f"{name}, one batch", fontsize=8)
    _save(figure, table, file)


def draw_calibration(table: Table, said: Mapping[str, Sequence[Predictions]], file: Path, *, bins: int = 10) -> bool:
    """How often the likeliest label is right against how likely it is said to be; False for values, which have none.

    Without each row's temperature, which the selection people gave, and with it; ECE is the expected calibration error,
    its mean over seeds. A row of which no temperature was kept has only the first.
    """
    if table.task not in ("pain", "classification"):
        return False
    figure = Figure(figsize=(8, 4), layout="constrained")
    before, after = figure.subplots(1, 2, sharex=True, sharey=True)
    for name, runs in said.items():
        _draw_reliability(before, name, runs, bins)
        if all(run.calibrated is not None for run in runs):
            _draw_reliability(after, name, [run.with_temperature() for run in runs], bins)
        else:
            after.plot([], [], marker="o", label=f"{name}: no temperature was kept")
    before.set_ylabel("how often it is right")
    for axes, title in ((before, "without a temperature"), (after, "with the selection people's temperature")):
        axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("probability of the likeliest")
        axes.legend(fontsize=6)
    _save(figure, table, file)
    return True


def _draw_reliability(axes: Axes, name: str, runs: Sequence[Predictions], bins: int) -> None:
    answers = np.concatenate([run.said[run.answered] for run in runs])
    truth = np.concatenate([run.truth[run.answered] for run in runs])
    confidence, right = answers.max(axis=1), answers.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    used = [place == b for b in range(bins) if (place == b).sum() >= 5]
    errors = [error for run in runs if (error := run.calibration_error()) is not None]
    label = f"{name}, ECE {np.mean(errors):.3f}" if errors else f"{name}: no answer"
    axes.plot([confidence[b].mean() for b in used], [right[b].mean() for b in used], marker="o", label=label)


def _headline(table: Table) -> str:
    return "mean accuracy of people" if table.task in ("pain", "classification") else "pooled CCC"


def _save(figure: Figure, table: Table, file: Path) -> None:
    named = (sentence for sentence in table.sentences[1:] if NAMED.match(sentence))
    figure.suptitle(" ".join(("; ".join((table.name, *table.sentences[:1])), *named)), fontsize=8, wrap=True)
    figure.savefig(file, dpi=150)

"""The table of methods over seeds, the teacher first.

All rows of a seed share data, split, encoders and their weights, initial fusion, epochs and selection rule.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.config import RunConfig
from training.run import label, load_student, shared_stages, student_stages
from training.run_folder import RunFolder
from training.stages.evaluate import evaluate
from training.stages.methods import METHODS
from training.stages.prepare import prepare_setting

HEADLINE = {
    "pain": ("accuracy", "accuracy_lowest_highest"),
    "valence-arousal": ("ccc_valence", "ccc_arousal", "ccc_mean"),
}

Scores = dict[str, dict[str, float]]


def compare(config: RunConfig, path: Path, seeds: Sequence[int], methods: Sequence[str]) -> dict[int, Scores]:
    """Scores by seed and row; what an earlier call finished is read, not computed again. Writes CSV and Markdown."""
    results = {
        seed: _one_seed(config.model_copy(update={"seed": seed}), path / f"seed-{seed}", methods) for seed in seeds
    }
    write_csv(results, path / "table.csv")
    (path / "table.md").write_text(markdown(config, results), encoding="utf-8")
    return results


def _one_seed(config: RunConfig, path: Path, methods: Sequence[str]) -> Scores:
    folder = RunFolder(path)
    folder.begin(config, resume=True)
    done: Scores = folder.metrics().get("rows", {})
    wanted = [("teacher", config.modalities)] + [
        (method, available) for available in config.students if config.missing(available) for method in methods
    ]
    rows = [_row(method, available) for method, available in wanted]
    if set(rows) <= set(done):
        return {row: done[row] for row in rows}
    setting = prepare_setting(config, folder.scratch)
    encoders, teacher = shared_stages(setting, folder)
    for row, (method, available) in zip(rows, wanted, strict=True):
        if row in done:
            continue
        if method == "teacher":
            done[row] = evaluate(setting, teacher, config.modalities)
        else:
            name = f"{method.replace(' ', '-')}-{label(available)}"
            student_stages(setting, folder, encoders, teacher, available, METHODS[method], name)
            student = load_student(setting, folder, available, name, hallucinates=METHODS[method].hallucinates)
            done[row] = evaluate(setting, student, available)
        folder.add_metrics("rows", done)
    return {row: done[row] for row in rows}


def _row(method: str, available: tuple[str, ...]) -> str:
    return f"{method} ({label(available)})"


def write_csv(results: dict[int, Scores], file: Path) -> None:
    """One line for each seed, row and score."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seed", "row", "score", "value"])
        for seed, rows in results.items():
            writer.writerows((seed, row, name, value) for row, scores in rows.items() for name, value in scores.items())


def markdown(config: RunConfig, results: dict[int, Scores]) -> str:
    """Mean ± standard deviation over seeds of the task's headline scores."""
    names = HEADLINE[config.task]
    lines = [f"| {config.name}, {len(results)} seeds | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for row in next(iter(results.values())):
        cells = []
        for name in names:
            values = np.array([scores[row][name] for scores in results.values()])
            cells.append(f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.3f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"

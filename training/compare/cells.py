"""What lies in the cells of a comparison: of each row the predictions, or the reason why it did not converge."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from training.compare.failures import Failure
from training.config import RunConfig
from training.run_folder import RunFolder
from training.scores.predictions import Predictions, joined_folds, load_predictions
from training.stages.kept import label
from training.stages.setting import untaught_sentence

Results = dict[str, list[Predictions]]
"""Row to what it said of everybody, one for each seed."""


class Row(NamedTuple):
    """A method for one set of available modalities, the teacher, or the constant answer, which needs no modality."""

    method: str
    available: tuple[str, ...]

    @property
    def name(self) -> str:
        """How the row is called in tables."""
        return f"{self.method} ({label(self.available)})" if self.available else self.method

    @property
    def file(self) -> str:
        """How its checkpoint and predictions are called."""
        plain = "".join(c if c.isalnum() or c in "+=." else "-" for c in self.method)
        return f"{plain}-{label(self.available)}" if self.available else plain


def cell_folder(path: Path, cell: RunConfig) -> Path:
    """Where a cell's run lies."""
    return path / f"seed-{cell.seed}" / f"fold-{cell.fold}"


def predictions_file(folder: Path, row: Row) -> Path:
    """Where a cell keeps what the row said of its test people."""
    return folder / "predictions" / f"{row.file}.npz"


def reason_file(folder: Path, row: Row) -> Path:
    """Where a cell keeps why the row did not converge."""
    return folder / "not-converged" / f"{row.file}.txt"


def row_is_done(folder: Path, row: Row) -> bool:
    """Whether the row was trained and tested, or did not converge."""
    return predictions_file(folder, row).exists() or reason_file(folder, row).exists()


def cell_is_done(folder: Path, rows: Sequence[Row]) -> bool:
    """Whether every row of a cell is."""
    return all(row_is_done(folder, row) for row in rows)


def gather(path: Path, cells: Sequence[RunConfig], rows: Sequence[Row]) -> tuple[Results, dict[str, Failure]]:
    """Each row's predictions, the folds of a seed joined, or in which cells it has none."""
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    failures = {row.name: failure for row in rows if (failure := _failure(path, cells, row))}
    results = {
        row.name: [_joined(path, [cell for cell in cells if cell.seed == seed], row) for seed in seeds]
        for row in rows
        if row.name not in failures
    }
    return results, failures


def _joined(path: Path, cells: Sequence[RunConfig], row: Row) -> Predictions:
    return joined_folds([load_predictions(predictions_file(cell_folder(path, cell), row)) for cell in cells])


def _failure(path: Path, cells: Sequence[RunConfig], row: Row) -> Failure | None:
    failed = [cell for cell in cells if reason_file(cell_folder(path, cell), row).exists()]
    if not failed:
        return None
    first = failed[0]
    reason = reason_file(cell_folder(path, first), row).read_text(encoding="utf-8")
    return Failure(len(failed), len(cells), f"seed {first.seed}, fold {first.fold}", reason)


def protocol_sentences(path: Path, cells: Sequence[RunConfig]) -> list[str]:
    """How the results of all cells came about, in sentences."""
    said = [RunFolder(cell_folder(path, cell)).metrics()["protocol"] for cell in cells]
    first = f"{said[0]['split']}; folds tested: {len({cell.fold for cell in cells})}."
    return [first, *said[0]["notes"], *_untaught(cells, [one.get("untaught", []) for one in said])]


def _untaught(cells: Sequence[RunConfig], names: Sequence[Sequence[str]]) -> list[str]:
    """A sentence for each level or class among the `names` of a cell; cells of an earlier version name none."""
    places: dict[str, list[str]] = {}
    for cell, own in zip(cells, names, strict=True):
        for name in own:
            places.setdefault(name, []).append(f"seed {cell.seed}, fold {cell.fold}")
    return [
        untaught_sentence(name, f"{len(where)} of {len(cells)} cells, first in {where[0]},")
        for name, where in places.items()
    ]

"""Rows that did not converge: why is kept in the cell, so that they are not run again, and is said below the table."""

from dataclasses import dataclass
from pathlib import Path

from training.files.replacing import whole_file


@dataclass(frozen=True)
class Failure:
    """A row without a score: in some cells it would be of other people or seeds than the rows beside it."""

    cells: int
    """In which it did not converge."""
    of: int
    """The comparison's cells."""
    where: str
    """The first of those."""
    reason: str
    """There."""

    @property
    def place(self) -> str:
        """What stands in the table."""
        return f"not converged in {self.cells} of {self.of} cells"

    def sentence(self, row: str) -> str:
        """What stands below it."""
        return f"{row} has no score: {self.place}, first in {self.where}: {self.reason}"


def write_reason(file: Path, reason: str) -> None:
    """Write what `Path.read_text` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        part.write_text(reason, encoding="utf-8")

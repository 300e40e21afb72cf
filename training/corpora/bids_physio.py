"""One physiological recording in BIDS: a table without a header, and the JSON files that describe it.

Gorgolewski et al., "The Brain Imaging Data Structure", Scientific Data 3, 160044 (2016); specification 1.10, section
"Physiological recordings". A JSON file describes every recording whose name has all of its entities (`task-heat`),
from its own folder down; a more special one overrides a more general one.
"""

import gzip
import io
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.corpora.clip import CorpusError

SUFFIX: Final = "_physio.tsv.gz"
ROOT_FILES: Final = ("dataset_description.json", "participants.tsv")
MISSING: Final = "n/a"
NO_UNIT: Final = (None, "", MISSING)


class Physio(NamedTuple):
    """A recording; `start_s` is the time of its first sample on the clock of the run's events."""

    file: str
    """Its name, for messages."""
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    """(C, n), in the file's own units; NaN where a value is missing."""
    rate_hz: float
    start_s: float
    units: Mapping[str, str]
    """By column, where the JSON says."""


def read_physio(path: Path) -> Physio:
    """Read a `*_physio.tsv.gz` with its JSON files.

    Raises CorpusError where the JSON lacks SamplingFrequency, StartTime or Columns, or the table does not fit them.
    """
    facts = describe(path)
    rate_hz, start_s = (_number(facts, key, path.name) for key in ("SamplingFrequency", "StartTime"))
    columns = facts.get("Columns")
    if not isinstance(columns, list) or not columns or not all(isinstance(name, str) for name in columns):
        raise CorpusError(f"the JSON of {path.name} has no Columns: expected a list of the table's column names.")
    if rate_hz <= 0:
        raise CorpusError(f"the JSON of {path.name} says SamplingFrequency {rate_hz:g}: expected more than 0 Hz.")
    table = read_table(path)
    if table.shape[1] != len(columns) or np.isinf(table).any():
        raise CorpusError(
            f"{path.name} has {len(table)} lines of {table.shape[1]} finite numbers or n/a: expected {len(columns)} a "
            f"line, and no header: {', '.join(columns)}."
        )
    described = {name: facts[name] for name in columns if isinstance(facts.get(name), dict)}
    units = {name: str(about["Units"]) for name, about in described.items() if about.get("Units") not in NO_UNIT}
    return Physio(path.name, tuple(columns), np.ascontiguousarray(table.T), rate_hz, start_s, units)


def read_table(path: Path) -> NDArray[np.float64]:
    """The numbers of a gzipped table without a header, (n, C); `n/a` is NaN."""
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path.name} cannot be read ({error}): expected a gzipped table.") from error
    if not text.strip():
        raise CorpusError(f"{path.name} is empty: expected a line for each sample.")
    try:
        return np.loadtxt(io.StringIO(text.replace(MISSING, "nan")), delimiter="\t", ndmin=2)
    except ValueError as error:
        raise CorpusError(f"{path.name} holds something that is not a number or n/a: {error}.") from error


def describe(path: Path) -> dict[str, Any]:
    """What all JSON files that apply to a recording say together."""
    own = entities(path, SUFFIX)
    facts: dict[str, Any] = {}
    found = False
    for folder in reversed(levels(path)):
        files = [file for file in sorted(folder.glob("*physio.json")) if entities(file, "physio.json") <= own]
        for file in sorted(files, key=lambda file: len(entities(file, "physio.json"))):
            facts |= read_object(file)
            found = True
    if not found:
        raise CorpusError(f"{path.name} has no JSON: expected {path.name.removesuffix('.tsv.gz')}.json beside it.")
    return facts


def read_object(file: Path) -> dict[str, Any]:
    """The keys of a JSON file; CorpusError where it holds anything else."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{file.name} is not JSON in UTF-8: {error}.") from error
    if not isinstance(facts, dict):
        raise CorpusError(f"{file.name} holds no keys: expected an object in JSON.")
    return facts


def levels(path: Path) -> list[Path]:
    """The recording's folder and those above it, up to the data set's root; its own alone where that is unknown."""
    above = list(path.parents)[:4]  # datatype, session, subject, root
    for i, folder in enumerate(above):
        if any((folder / name).is_file() for name in ROOT_FILES):
            return above[: i + 1]
    return above[:1]


def entities(path: Path, suffix: str) -> frozenset[str]:
    """`sub-01`, `task-heat` and so on in a file's name."""
    return frozenset(part for part in path.name.removesuffix(suffix).split("_") if part)


def _number(facts: Mapping[str, Any], key: str, name: str) -> float:
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CorpusError(f"the JSON of {name} has no {key}: expected a number.")
    return float(value)

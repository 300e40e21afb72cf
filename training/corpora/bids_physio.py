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
from collections import Counter
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
# Physiology is recorded at some value between: below, a window of seconds holds too few samples to be filtered; above,
# as where hertz were mistaken for a period or a count, it does not fit into memory.
LOWEST_HZ: Final = 1.0
HIGHEST_HZ: Final = 100_000.0


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

    @property
    def end_s(self) -> float:
        """When its last sample ends, on the same clock."""
        return self.start_s + float(self.values.shape[1]) / self.rate_hz


def read_physio(path: Path) -> Physio:
    """Read a `*_physio.tsv.gz` with its JSON files.

    Raises CorpusError where the JSON lacks SamplingFrequency, StartTime or Columns, where the frequency is not within
    1 Hz to 100 kHz or a column has two places, and where the table does not fit them.
    """
    facts = describe(path)
    rate_hz, start_s = (_number(facts, key, path.name) for key in ("SamplingFrequency", "StartTime"))
    columns = facts.get("Columns")
    if not isinstance(columns, list) or not columns or not all(isinstance(name, str) for name in columns):
        raise CorpusError(f"the JSON of {path.name} has no Columns: expected a list of the table's column names.")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise CorpusError(f"the JSON of {path.name} names {twice[0]} twice in Columns: expected each column once.")
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        file = next(file for file in reversed(descriptions(path)) if "SamplingFrequency" in read_object(file))
        raise CorpusError(
            f"{file.name} says SamplingFrequency {rate_hz:g}: expected {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz."
        )
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
    """The numbers of a gzipped table without a header, (n, C); `n/a` is NaN.

    Raises CorpusError for what is no such table, and for an empty line: every line is a sample, and has its time by
    its place.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path.name} cannot be read ({error}): expected a gzipped table.") from error
    if not text.strip():
        raise CorpusError(f"{path.name} is empty: expected a line for each sample.")
    try:
        table = np.loadtxt(io.StringIO(text.replace(MISSING, "nan")), delimiter="\t", ndmin=2, comments=None)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise CorpusError(f"{path.name} holds something that is not a number or n/a: {reason}.") from error
    lines = text.rstrip("\r\n").split("\n")
    if len(table) != len(lines):  # empty ones were left out
        empty = next(number for number, line in enumerate(lines, start=1) if not line.strip())
        raise CorpusError(f"{path.name}, line {empty}, is empty: expected a number or n/a in each column.")
    return table


def describe(path: Path) -> dict[str, Any]:
    """What all JSON files that apply to a recording say together."""
    files = descriptions(path)
    if not files:
        raise CorpusError(f"{path.name} has no JSON: expected {path.name.removesuffix('.tsv.gz')}.json beside it.")
    facts: dict[str, Any] = {}
    for file in files:
        facts |= read_object(file)
    return facts


def descriptions(path: Path) -> list[Path]:
    """The JSON files that apply to a recording, the most special one last: what a later one says counts."""
    own = entities(path, SUFFIX)
    files: list[Path] = []
    for folder in reversed(levels(path)):
        here = [file for file in sorted(folder.glob("*physio.json")) if entities(file, "physio.json") <= own]
        files += sorted(here, key=lambda file: len(entities(file, "physio.json")))
    return files


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

"""Who and what is in a BIDS data set with physiology: runs with their recordings and events, and people."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from training.corpora.bids_physio import MISSING, SUFFIX, entities, read_object
from training.corpora.clip import CorpusError, relative

SEXES: Final = {"f": "female", "female": "female", "m": "male", "male": "male", "o": "other", "other": "other"}
AGE_BANDS: Final = ((0, 17), (18, 35), (36, 50), (51, 65), (66, 200))
UNKNOWN: Final[Mapping[str, str]] = {"sex": "unknown", "age": "unknown"}
"""Of people whom participants.tsv does not name."""


class Event(NamedTuple):
    """One line of an events file."""

    run: str
    number: int
    onset_s: float
    trial_type: str


@dataclass(frozen=True)
class Run:
    """One run of one person: its recordings, and its events if it has any."""

    name: str
    person: str
    recordings: tuple[Path, ...]
    events: Path


def find_runs(root: Path) -> list[Run]:
    """Runs that have a recording, by name; the recordings of one run differ in `recording-` only.

    Raises CorpusError where there is none, and for a recording that lies in another person's folder.
    """
    runs: dict[str, list[Path]] = {}
    for pattern in (f"sub-*/*/*{SUFFIX}", f"sub-*/ses-*/*/*{SUFFIX}"):
        for path in sorted(root.glob(pattern)):
            parts = path.name.removesuffix(SUFFIX).split("_")
            if parts[0] != (folder := path.relative_to(root).parts[0]):
                raise CorpusError(f"{relative(path, root)} is named after {parts[0]}: expected a name with {folder}.")
            runs.setdefault("_".join(part for part in parts if not part.startswith("recording-")), []).append(path)
    if not runs:
        raise CorpusError(f"{root} has no sub-*/*/*{SUFFIX}: give the root of a BIDS data set with physiology.")
    return [
        Run(name, name.split("_")[0], tuple(paths), paths[0].with_name(f"{name}_events.tsv"))
        for name, paths in sorted(runs.items())
    ]


def read_events(run: Run, root: Path) -> list[Event]:
    """The events that have a type; a run of a task whose name begins with `rest` needs none.

    Raises CorpusError where the table is missing or no such table, and for a line that says what another one says.
    """
    if not run.events.is_file():
        if any(part.startswith("task-rest") for part in entities(run.events, "_events.tsv")):
            return []
        raise CorpusError(f"{relative(run.events, root)} is missing: expected the events of {run.recordings[0].name}.")
    events: dict[tuple[float, str], Event] = {}
    for number, row in enumerate(read_rows(run.events, ("onset", "trial_type")), start=1):
        if row["trial_type"] in ("", MISSING):
            continue
        try:
            onset_s = float(row["onset"])
        except ValueError:
            onset_s = np.nan
        if not np.isfinite(onset_s):
            raise CorpusError(
                f"{run.events.name}, line {number + 1}, has the onset {row['onset']!r}: expected seconds."
            )
        event = Event(run.name, number, onset_s, row["trial_type"])
        if (earlier := events.setdefault((onset_s, event.trial_type), event)) is not event:
            raise CorpusError(
                f"{run.events.name}, line {number + 1}, repeats line {earlier.number + 1}: expected each event once."
            )
    return list(events.values())


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a table with a header, separated by tabs; CorpusError where one of `columns` is missing."""
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t", restval="")
        rows, header = list(reader), reader.fieldnames or ()
    except UnicodeDecodeError:
        raise CorpusError(f"{path.name} is not UTF-8: save it as UTF-8 text.") from None
    except csv.Error as error:
        raise CorpusError(f"{path.name} is no table ({error}): expected short lines, separated by tabs.") from error
    for name in columns:
        if name not in header:
            raise CorpusError(f"{path.name} has no column {name}: expected a header, separated by tabs.")
    return rows


def read_participants(root: Path) -> dict[str, Mapping[str, str]]:
    """Sex and age band by participant_id; nothing where there is no participants.tsv.

    Raises CorpusError where that is no such table, or has two lines of one person.
    """
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    rows = [row for row in read_rows(path, ("participant_id",)) if row["participant_id"]]
    if twice := [name for name, n in Counter(row["participant_id"] for row in rows).items() if n > 1]:
        raise CorpusError(f"{path.name} has two lines of {twice[0]}: expected a line for each person.")
    return {
        row["participant_id"]: {
            "sex": SEXES.get(row.get("sex", "").lower(), "unknown"),
            "age": age_band(row.get("age", "")),
        }
        for row in rows
    }


def age_band(age: str) -> str:
    """`36-50` and so on; "unknown" for what is no age. The oldest may be written `89+`."""
    try:
        years = int(float(age.removesuffix("+")))
    except (ValueError, OverflowError):
        return "unknown"
    return next((f"{low}-{high}" for low, high in AGE_BANDS if low <= years <= high), "unknown")


def licence(root: Path) -> str:
    """Name and licence in dataset_description.json, as a sentence."""
    path = root / "dataset_description.json"
    facts = read_object(path) if path.is_file() else {}
    return f"{facts.get('Name', root.resolve().name)}: {facts.get('License', 'no licence is stated')}."

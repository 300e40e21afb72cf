"""Physiology in BIDS as a corpus: each event is a row, and its signals are cut from the run's recordings.

Under the root lie participants.tsv and, for each person and session, `*_physio.tsv.gz` with `*_events.tsv` of the same
run. A row begins at an event's onset and lasts `window_s`, however long the event is: bodies answer late.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.spec import InputSpec, Task
from training.corpora.bids_physio import Physio, read_physio
from training.corpora.bids_runs import UNKNOWN, find_runs, licence, read_events, read_participants
from training.corpora.bids_signals import cut_signals
from training.corpora.bids_units import factor_of, in_millionths, modality_named
from training.corpora.clip import SYNTHETIC_LICENCE, CorpusError, is_synthetic
from training.corpora.feature_corpus import FeatureCorpus
from training.corpora.leaks import identical_files


def read_bids(root: Path, inputs: InputSpec, trial_types: Sequence[str], task: Task) -> FeatureCorpus:
    """The events of `trial_types`, which are the task's levels or classes in order, with their signals.

    `inputs.signals` names the columns, the rate and the window; `eda`, `ecg` and `emg` are prepared as everywhere,
    other signals are low-passed and resampled. Events of other types are left out, and said. Raises CorpusError at the
    first file or column that is missing or not as expected.
    """
    runs = find_runs(root)
    events = {run.name: read_events(run, root) for run in runs}
    if task not in ("pain", "classification"):
        raise CorpusError(f"{root.name} cannot serve {task}: an event's trial_type is a level or a class.")
    if len(trial_types) < 2:
        raise CorpusError(f"{root.name} needs corpus.levels: expected two trial types or more, in order.")
    found = Counter(event.trial_type for own in events.values() for event in own)
    if absent := [name for name in trial_types if name not in found]:
        raise CorpusError(f"no event in {root.name} has the trial_type {absent[0]}: there are {', '.join(found)}.")
    rows = [(run, event) for run in runs for event in events[run.name] if event.trial_type in trial_types]
    signals, notes = cut_signals(rows, inputs)
    people = read_participants(root)
    left_out = [
        f"{count} events of type {name} were left out." for name, count in found.items() if name not in trial_types
    ]
    return FeatureCorpus(
        name=root.resolve().name,
        task=task,
        classes=tuple(trial_types),
        values=(),
        licence=SYNTHETIC_LICENCE if is_synthetic(root) else licence(root),
        synthetic=is_synthetic(root),
        modalities=signals,
        labels=np.array([trial_types.index(event.trial_type) for _, event in rows], np.int64),
        group=tuple(run.person for run, _ in rows),
        clip=tuple(f"{run.name}-{event.number:03d}" for run, event in rows),
        split=(None,) * len(rows),
        groups=tuple(people.get(run.person, UNKNOWN) for run, _ in rows),
        time_s=np.array([(event.onset_s, event.onset_s + inputs.window_s) for _, event in rows], np.float64),
        notes=(*left_out, *notes),
    )


def check_bids(root: Path) -> list[str]:
    """Sentences on the data set: problems ("problem: ..."), then recordings by columns, events by type and person.

    Only a recipe says which column is read as what: a unit that eda or emg cannot have is a problem where the column is
    named after them, and else a note. Raises CorpusError where there is no recording at all.
    """
    runs = find_runs(root)
    problems: list[str] = []
    notes: dict[str, None] = {}
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for run in runs:
        for path in run.recordings:
            try:
                physio = read_physio(path)
                kinds[f"{', '.join(physio.columns)} at {physio.rate_hz:g} Hz"] += 1
                notes |= dict.fromkeys(units_of_others(physio))
                require_named_units(physio)
            except CorpusError as error:
                problems.append(str(error))
        try:
            own = read_events(run, root)
        except CorpusError as error:
            problems.append(str(error))
            continue
        types.update(event.trial_type for event in own)
        events[run.person] += len(own)
    problems += identical_files([path for run in runs for path in run.recordings], root)
    people = sorted({run.person for run in runs})
    return [
        *(f"problem: {problem}" for problem in dict.fromkeys(problems)),  # one JSON may be of many recordings
        *(f"note: {note}" for note in notes),
        f"{len(runs)} runs of {len(people)} people, {sum(kinds.values())} recordings that can be read",
        *(f"columns {columns}: {count} recordings" for columns, count in sorted(kinds.items())),
        *(f"trial_type {name}: {count} events" for name, count in sorted(types.items())),
        *(f"person {person}: {events[person]} events" for person in people),
    ]


def require_named_units(physio: Physio) -> None:
    """Raise CorpusError where a column is named after eda or emg, and has another unit."""
    for column, unit in physio.units.items():
        if modality := modality_named(column):
            factor_of(modality, column, unit, physio.file)


def units_of_others(physio: Physio) -> list[str]:
    """A sentence for each other column whose unit neither eda nor emg can have."""
    return [
        f"the unit {unit!r} of {column} is neither siemens nor volt: a recipe cannot read it as eda or emg."
        for column, unit in physio.units.items()
        if modality_named(column) is None and in_millionths(unit) is None
    ]

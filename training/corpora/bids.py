"""Physiology in BIDS as a corpus: each event is a row, and its signals are cut from the run's recordings.

Under the root lie participants.tsv and, for each person and session, `*_physio.tsv.gz` with `*_events.tsv` of the same
run. A row begins at an event's onset and lasts `window_s`, however long the event is: bodies answer late.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.spec import InputSpec, Task
from training.corpora.bids_physio import Physio, read_physio
from training.corpora.bids_runs import UNKNOWN, Event, Run, find_runs, licence, read_events, read_participants
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
    require_one_level_an_onset(rows)
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
        notes=(*left_out, *notes, *unobserved(signals)),
    )


def require_one_level_an_onset(rows: Sequence[tuple[Run, Event]]) -> None:
    """Raise CorpusError where two rows begin at one time of a run: one piece of signal would have two labels."""
    first: dict[tuple[str, float], Event] = {}
    for run, event in rows:
        if (earlier := first.setdefault((run.name, event.onset_s), event)) is not event:
            raise CorpusError(
                f"{run.events.name}, line {event.number + 1}, has the onset {event.onset_s:g} of line "
                f"{earlier.number + 1}: expected one event of corpus.levels at a time."
            )


def unobserved(signals: Mapping[str, NDArray[np.float32]]) -> tuple[str, ...]:
    """A sentence on rows without any signal; CorpusError where that is so of all."""
    if not signals:
        return ()
    seen = np.any([np.isfinite(values).any(axis=(1, 2)) for values in signals.values()], axis=0)
    if not seen.any():
        raise CorpusError(
            f"all {len(seen)} events lie outside the recordings of their runs, or in gaps: expected onsets in seconds, "
            "on the clock of StartTime."
        )
    if seen.all():
        return ()
    return (
        f"{int((~seen).sum())} of {len(seen)} events were not observed: they lie outside the recordings, or in a gap.",
    )


def check_bids(root: Path) -> list[str]:
    """Sentences on the data set: problems ("problem: ..."), then recordings by columns, events by type and person.

    Only a recipe says which column is read as what: a unit that eda or emg cannot have is a problem where the column is
    named after them, and else a note. Groups of people are counted where participants.tsv says them. Raises CorpusError
    where there is no recording at all.
    """
    runs = find_runs(root)
    problems: list[str] = []
    notes: list[str] = []
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for run in runs:
        spans = []
        for path in run.recordings:
            try:
                physio = read_physio(path)
                kinds[f"{', '.join(physio.columns)} at {physio.rate_hz:g} Hz"] += 1
                spans.append((physio.start_s, physio.end_s))
                notes += units_of_others(physio)
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
        if outside := [event for event in own if spans and not any(a <= event.onset_s < b for a, b in spans)]:
            (notes if len(outside) < len(own) else problems).append(beyond_recordings(run, outside, len(own), spans))
    problems += identical_files([path for run in runs for path in run.recordings], root)
    people = sorted({run.person for run in runs})
    groups: list[str] = []
    try:
        named = read_participants(root)
        notes += who_is_missing(named, people)
        groups = group_counts(named, people)
    except CorpusError as error:
        problems.append(str(error))
    return [
        *(f"problem: {problem}" for problem in dict.fromkeys(problems)),  # one JSON may be of many recordings
        *(f"note: {note}" for note in dict.fromkeys(notes)),
        f"{len(runs)} runs of {len(people)} people, {sum(kinds.values())} recordings that can be read",
        *(f"columns {columns}: {count} recordings" for columns, count in sorted(kinds.items())),
        *(f"trial_type {name}: {count} events" for name, count in sorted(types.items())),
        *groups,
        *(f"person {person}: {events[person]} events" for person in people),
    ]


def beyond_recordings(run: Run, outside: Sequence[Event], of: int, spans: Sequence[tuple[float, float]]) -> str:
    """A sentence on events that do not begin while the run is recorded, as where onsets are no seconds."""
    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    return (
        f"{run.events.name}: {len(outside)} of {of} events begin outside the recordings, which last from {start:g} to "
        f"{end:g} s; the first has the onset {outside[0].onset_s:g}."
    )


def who_is_missing(named: Mapping[str, Mapping[str, str]], people: Sequence[str]) -> list[str]:
    """Sentences on people who are either in participants.tsv, where there is one, or have a recording."""
    if not named:
        return []
    both = (
        ("participants.tsv has no line for {}: sex and age are unknown.", [who for who in people if who not in named]),
        ("participants.tsv names {}, of whom there is no recording.", [who for who in named if who not in people]),
    )
    return [
        said.format(missing[0] + (f" and {len(missing) - 1} more" if missing[1:] else ""))
        for said, missing in both
        if missing
    ]


def group_counts(named: Mapping[str, Mapping[str, str]], people: Sequence[str]) -> list[str]:
    """How many of `people` are of each sex and age band; nothing where there is no participants.tsv."""
    counts = Counter(group for who in people for group in named.get(who, UNKNOWN).items())
    return [f"{kind} {group}: {count} people" for (kind, group), count in sorted(counts.items()) if named]


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

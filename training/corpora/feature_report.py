"""What `pkdot corpus check features` says of a corpus that can be read: leaks first, then counts."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpora.feature_corpus import FeatureCorpus
from training.corpora.recordings import notes_on_pooling

BY_CHANCE: Final = 8
"""Rows of fewer different numbers may well be alike by chance, or because two people saw the same thing."""


def report(corpus: FeatureCorpus) -> list[str]:
    """Sentences on rows that stand in two people or two splits, then counts by split, label, modality, group, person.

    With the first: classes without a row, or without one to learn from, modalities that are missing in every row, and
    people who may be one.
    Before the counts, whether rows of a recording are scored by themselves. A person in two splits never gets here:
    such a corpus cannot be read.
    """
    leaks = [sentence for modality in corpus.modalities for sentence in repeated_rows(corpus, modality)]
    people = sorted(set(corpus.group))
    rows, splits = Counter(corpus.group), Counter(part for part in corpus.split if part)
    kinds = sorted({kind for own in corpus.groups for kind in own})
    of_person = dict(zip(corpus.group, corpus.groups, strict=True))
    groups = Counter((kind, of_person[person][kind]) for person in people for kind in kinds)
    return [
        *sorted(
            [*leaks, *nothing_there(corpus), *differ_in_case(people)], reverse=True
        ),  # "problem: ..." before "note: ..."
        *(f"note: {note}" for note in notes_on_pooling(corpus)),
        f"{corpus.name}: {corpus.task}, {len(corpus)} rows of {len(people)} people in {len(set(corpus.clip))} clips",
        *(f"split {part}: {count} rows" for part, count in sorted(splits.items())),
        *label_counts(corpus),
        *(modality_count(corpus, modality) for modality in corpus.modalities),
        *(f"{kind} {group}: {count} people" for (kind, group), count in sorted(groups.items())),
        *(f"person {person}: {rows[person]} rows" for person in people),
    ]


def nothing_there(corpus: FeatureCorpus) -> list[str]:
    """A sentence for what is named but held by no row; a problem where nothing is left to learn from."""
    counts = Counter(corpus.labels.tolist()) if corpus.classes else Counter()
    there = [name for i, name in enumerate(corpus.classes) if counts[i]]
    sentences = [f"note: no row is of the class {name}." for name in corpus.classes if name not in there]
    sentences += untaught(corpus)
    if len(there) == 1:
        sentences.append(f"problem: every labelled row is of the class {there[0]}: expected at least two classes.")
    return sentences + [
        f"problem: {name} is missing in every row: expected a row that has it."
        for name in corpus.modalities
        if not corpus.observed(name).any()
    ]


def untaught(corpus: FeatureCorpus) -> list[str]:
    """A sentence for each class that the corpus's own test rows have and its other rows do not."""
    if not corpus.classes or "test" not in corpus.split:
        return []
    of = {(part == "test", label) for part, label in zip(corpus.split, corpus.labels.tolist(), strict=True)}
    return [
        f"note: rows of the class {name} are in the split test only: nothing can learn it from the others."
        for i, name in enumerate(corpus.classes)
        if (True, i) in of and (False, i) not in of
    ]


def differ_in_case(people: Sequence[str]) -> list[str]:
    """A sentence for two people whose names only differ in capitals, which may be one person and may be two."""
    by_letters: dict[str, list[str]] = {}
    for person in people:
        by_letters.setdefault(person.casefold(), []).append(person)
    return [
        f"note: group has {first} and {second}, who count as two people."
        for first, *others in by_letters.values()
        for second in others
    ]


def label_counts(corpus: FeatureCorpus) -> list[str]:
    """Rows by class, or labelled rows with the range of each value."""
    if corpus.classes:
        counts = Counter(corpus.labels.tolist())
        unlabelled = [f"without a label: {counts[-1]} rows"] if counts[-1] else []
        return [*(f"class {name}: {counts[i]} rows" for i, name in enumerate(corpus.classes)), *unlabelled]
    labelled = corpus.labels[np.isfinite(corpus.labels).all(axis=1)]
    ranges = zip(corpus.values, labelled.min(axis=0), labelled.max(axis=0), strict=True)
    unlabelled = [f"without a label: {len(corpus) - len(labelled)} rows"] if len(corpus) > len(labelled) else []
    return [*(f"{name}: {len(labelled)} rows, {low:.3g} to {high:.3g}" for name, low, high in ranges), *unlabelled]


def modality_count(corpus: FeatureCorpus, modality: str) -> str:
    """The shape of a row, and what of it is missing."""
    values, observed = corpus.modalities[modality], corpus.observed(modality)
    missing, gaps = int((~observed).sum()), int(np.isnan(values[observed]).sum())
    shape = " × ".join(map(str, values.shape[1:]))
    return f"modality {modality}: {shape}, {missing} rows missing, {gaps} values missing in the others"


def repeated_rows(corpus: FeatureCorpus, modality: str) -> list[str]:
    """A sentence where rows of two people or two splits hold the same bytes, one for each of the two cases."""
    alike = same_bytes(corpus.modalities[modality], corpus.observed(modality))
    sentences = []
    for of, what in ((corpus.split, "splits"), (corpus.group, "people")):
        across = [rows for rows in alike if len({of[row] for row in rows}) > 1]
        certain = [rows for rows in across if distinct(corpus.modalities[modality][rows[0]]) >= BY_CHANCE]
        for word, found in (("problem", certain), ("note", [] if certain else across)):
            if found:
                times = "once:" if len(found) == 1 else f"{len(found)} times: first"
                first, second = found[0][0], next(row for row in found[0] if of[row] != of[found[0][0]])
                sentences.append(
                    f"{word}: {modality} is the same in rows of two {what}, {times} in row {first} ({of[first]}) and "
                    f"row {second} ({of[second]})."
                )
    return sentences


def same_bytes(values: NDArray[np.float32], observed: NDArray[np.bool_]) -> list[list[int]]:
    """The observed rows that are equal byte by byte, in groups of two and more, by their first row."""
    rows: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(observed).tolist():
        rows.setdefault(hashlib.sha256(values[row].tobytes()).digest(), []).append(row)
    return [found for found in rows.values() if len(found) > 1]


def distinct(row: NDArray[np.float32]) -> int:
    """How many different numbers a row holds."""
    return len(np.unique(row[np.isfinite(row)]))

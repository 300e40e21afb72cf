"""Who trains, who selects, who calibrates, who tests: people, never clips, but for the one protocol that says so."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from training.corpora.clip import Clip
from training.stage_config import SplitConfig

PartName = Literal["train", "select", "calibrate", "test"]
PARTS: tuple[PartName, ...] = get_args(PartName)


class SplitError(ValueError):
    """The people do not suffice for the parts."""


class Split(NamedTuple):
    """Four disjoint parts of the clips, by their ids."""

    train: frozenset[str]
    select: frozenset[str]
    calibrate: frozenset[str]
    test: frozenset[str]
    sentence: str
    """How it came about, for every result that is made with it."""

    def counts(self, clips: Iterable[Clip]) -> dict[PartName, int]:
        """How many people each part has."""
        people: dict[PartName, set[str]] = {part: set() for part in PARTS}
        for clip in clips:
            for part in PARTS:
                if clip.id in getattr(self, part):
                    people[part].add(clip.subject)
        return {part: len(names) for part, names in people.items()}


def fold_count(clips: Sequence[Clip], config: SplitConfig) -> int:
    """How many folds the protocol has for these clips."""
    if config.protocol == "loso":
        return len({clip.subject for clip in clips})
    return 1 if config.protocol == "official" else config.folds


def split_clips(clips: Sequence[Clip], config: SplitConfig, fold: int) -> Split:
    """Deal the clips into four parts, by `config.seed`; everybody is tested in exactly one fold.

    Whole people are dealt, but for `clip-kfold`. Raises SplitError where a part would be empty, where the protocol has
    no such fold, and where a person is in both parts of the corpus's own split.
    """
    folds = fold_count(clips, config)
    if not 0 <= fold < folds:
        raise SplitError(f"fold {fold} is not one of the {folds} folds of {config.protocol}, counted from 0")
    unit_of = {clip.id: clip.id if config.protocol == "clip-kfold" else clip.subject for clip in clips}
    if config.protocol == "official":
        order, test = _official(clips, config)
    else:
        units = sorted(set(unit_of.values()))
        order = _shuffled(units, config.seed)
        test = [str(unit) for unit in np.array_split(np.array(order), folds)[fold]]
    tested = set(test)
    rest = [unit for unit in order if unit not in tested]
    select, calibrate = (max(1, round(share * len(order))) for share in (config.select, config.calibrate))
    parts = {
        "train": rest[select + calibrate :],
        "select": rest[:select],
        "calibrate": rest[select : select + calibrate],
        "test": test,
    }
    if empty := [name for name, units in parts.items() if not units]:
        raise SplitError(f"{len(set(unit_of.values()))} people are too few: nobody is left for {', '.join(empty)}")
    part_of = {unit: name for name, units in parts.items() for unit in units}
    dealt: dict[str, set[str]] = {name: set() for name in parts}
    for clip_id, unit in unit_of.items():
        dealt[part_of[unit]].add(clip_id)
    return Split(**{name: frozenset(ids) for name, ids in dealt.items()}, sentence=_sentence(clips, config))


def _official(clips: Sequence[Clip], config: SplitConfig) -> tuple[list[str], list[str]]:
    """The other people in the order in which they are dealt, and the corpus's own test people."""
    test = {clip.subject for clip in clips if clip.split == "test"}
    others = sorted({clip.subject for clip in clips if clip.split != "test"})
    if not test:
        raise SplitError("the corpus has no test split of its own; take splits.protocol subject-kfold")
    if both := test & set(others):
        raise SplitError(f"{sorted(both)[0]} is in the corpus's training split and in its test split")
    return _shuffled(others, config.seed), sorted(test)


def _shuffled(units: Sequence[str], seed: int) -> list[str]:
    return [units[i] for i in np.random.default_rng(seed).permutation(len(units))]


def _sentence(clips: Sequence[Clip], config: SplitConfig) -> str:
    people = f"{len({clip.subject for clip in clips})} people"
    said = {
        "subject-kfold": f"{config.folds} folds by person",
        "loso": "leave one person out",
        "official": "the corpus's own test split",
        "clip-kfold": f"NOT SUBJECT-INDEPENDENT: {config.folds} folds by clip",
    }[config.protocol]
    return f"{said}; {people}, split seed {config.seed}"

"""Who trains, who selects, who calibrates, who tests: people, never clips, but for the one protocol that says so."""

from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import Literal, NamedTuple, get_args

import numpy as np

from training.corpora.clip import Clip
from training.stage_config import SplitConfig

PartName = Literal["train", "select", "calibrate", "test"]
PARTS: tuple[PartName, ...] = get_args(PartName)


class SplitError(ValueError):
    """The people do not suffice for the parts."""


class Split(NamedTuple):
    """Four disjoint parts of the clips, by their ids; a clip that nothing may be made of is in none."""

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


def fold_count(clips: Sequence[Clip], config: SplitConfig, unlabelled: Collection[str] = ()) -> int:
    """How many folds the protocol has for these clips, of which the people `unlabelled` have no label."""
    if config.protocol == "loso":
        if not (people := {clip.subject for clip in clips}.difference(unlabelled)):
            raise SplitError("nobody has a label: there is nobody to leave out")
        return len(people)
    return 1 if config.protocol == "official" else config.folds


def split_clips(clips: Sequence[Clip], config: SplitConfig, fold: int, unlabelled: Collection[str] = ()) -> Split:
    """Deal the clips into four parts, by `config.seed`; everybody with a label is tested in exactly one fold.

    Whole people are dealt, but for `clip-kfold`. The people `unlabelled`, who have no label, train in every fold, since
    a pair of recordings teaches without one; but the corpus's own test people do not. Raises SplitError where a part
    would be empty, where the protocol has no such fold, and where a person is in both parts of the corpus's own split.
    """
    folds = fold_count(clips, config, unlabelled)
    if not 0 <= fold < folds:
        raise SplitError(f"fold {fold} is not one of the {folds} folds of {config.protocol}, counted from 0")
    dealt = [clip for clip in clips if clip.subject not in unlabelled]
    unit_of = {clip.id: clip.id if config.protocol == "clip-kfold" else clip.subject for clip in dealt}
    if config.protocol == "official":
        order, test = _official(clips, config, unlabelled)
    else:
        units = sorted(set(unit_of.values()))
        order = _shuffled(units, config.seed)
        test = [str(unit) for unit in np.array_split(np.array(order), folds)[fold]]
    tested = set(test)
    rest = [unit for unit in order if unit not in tested]
    select, calibrate = _held_back(len(order), config)
    parts = {
        "train": rest[select + calibrate :],
        "select": rest[:select],
        "calibrate": rest[select : select + calibrate],
        "test": test,
    }
    empty = [name for name, units in parts.items() if not units]
    if config.protocol == "official" and empty == ["test"]:
        raise SplitError("none of the corpus's own test people has a label; take splits.protocol subject-kfold")
    if not empty and config.protocol.endswith("kfold") and len(order) < folds:
        empty = ["the test of every fold"]
    if empty:
        raise SplitError(_too_few(len(order), folds, empty, config))
    part_of = {unit: name for name, units in parts.items() for unit in units}
    ids: dict[str, set[str]] = {name: set() for name in parts}
    for clip_id, unit in unit_of.items():
        ids[part_of[unit]].add(clip_id)
    others = [clip for clip in clips if clip.subject in unlabelled]
    only_train = [clip for clip in others if config.protocol != "official" or clip.split != "test"]
    ids["train"] |= {clip.id for clip in only_train}
    return Split(**{name: frozenset(own) for name, own in ids.items()}, sentence=_sentence(config, dealt, only_train))


def _held_back(units: int, config: SplitConfig) -> tuple[int, int]:
    """How many of `units` people, or clips, select and calibrate."""
    select, calibrate = (max(1, round(share * units)) for share in (config.select, config.calibrate))
    return select, calibrate


def _too_few(units: int, folds: int, empty: Sequence[str], config: SplitConfig) -> str:
    """The sentence on parts that are empty, with the least number of people, or clips, that fills them in each fold."""
    kfold = config.protocol.endswith("kfold")
    keys = [f"splits.folds {folds}"] if kfold else []
    keys += [f"splits.select {config.select:g}", f"splits.calibrate {config.calibrate:g}"]
    least = folds if kfold else 1
    needed = next(n for n in count(least) if n > _tested(n, folds, config) + sum(_held_back(n, config)))
    what = "clips" if config.protocol == "clip-kfold" else "people"
    beside = " beside the test people" if config.protocol == "official" else ""
    return (
        f"{units} {what} with a label are too few: nobody is left for {', '.join(empty)}; {', '.join(keys)} need at "
        f"least {needed}{beside}"
    )


def _tested(units: int, folds: int, config: SplitConfig) -> int:
    """How many of `units` people, or clips, the largest fold tests."""
    if config.protocol == "official":
        return 0  # they are others
    return 1 if config.protocol == "loso" else -(-units // folds)


def _official(clips: Sequence[Clip], config: SplitConfig, unlabelled: Collection[str]) -> tuple[list[str], list[str]]:
    """Of people with a label: the others in the order in which they are dealt, and the corpus's own test people."""
    test = {clip.subject for clip in clips if clip.split == "test"}
    others = {clip.subject for clip in clips if clip.split != "test"}
    if not test:
        raise SplitError("the corpus has no test split of its own; take splits.protocol subject-kfold")
    if both := test & others:
        raise SplitError(f"{sorted(both)[0]} is in the corpus's training split and in its test split")
    return _shuffled(sorted(others.difference(unlabelled)), config.seed), sorted(test.difference(unlabelled))


def _shuffled(units: Sequence[str], seed: int) -> list[str]:
    return [units[i] for i in np.random.default_rng(seed).permutation(len(units))]


def _sentence(config: SplitConfig, dealt: Sequence[Clip], only_train: Sequence[Clip]) -> str:
    people, more = (len({clip.subject for clip in clips}) for clips in (dealt, only_train))
    said = {
        "subject-kfold": f"{config.folds} folds by person",
        "loso": "leave one person out",
        "official": "the corpus's own test split",
        "clip-kfold": f"NOT SUBJECT-INDEPENDENT: {config.folds} folds by clip",
    }[config.protocol]
    sentence = f"{said}; {people} people, split seed {config.seed}"
    return f"{sentence}; {more} more, without a label, only train" if more else sentence

"""Who trains, who selects, who calibrates, who tests: people, never clips."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from training.config import SplitConfig
from training.corpora.clip import Clip


class SplitError(ValueError):
    """The people do not suffice for the parts."""


class Split(NamedTuple):
    """Four disjoint parts of the people."""

    train: frozenset[str]
    select: frozenset[str]
    calibrate: frozenset[str]
    test: frozenset[str]


def split_people(clips: Sequence[Clip], config: SplitConfig) -> Split:
    """Deal the people into four parts, by `config.seed`; raises SplitError where a part would be empty.

    People in the corpus's own test split are the test part, and nobody else is. A person in both of its splits is an
    error: no split by person could hold.
    """
    own_test = {clip.subject for clip in clips if clip.split == "test"}
    others = sorted({clip.subject for clip in clips if clip.split != "test"})
    if both := own_test & set(others):
        raise SplitError(f"{sorted(both)[0]} is in the corpus's training split and in its test split")
    order = [others[i] for i in np.random.default_rng(config.seed).permutation(len(others))]
    test = own_test or set(order[: _count(config.test, len(order))])
    rest = [person for person in order if person not in test]
    select_count = _count(config.select, len(order))
    calibrate_count = _count(config.calibrate, len(order))
    split = Split(
        train=frozenset(rest[select_count + calibrate_count :]),
        select=frozenset(rest[:select_count]),
        calibrate=frozenset(rest[select_count : select_count + calibrate_count]),
        test=frozenset(test),
    )
    if empty := [name for name, people in split._asdict().items() if not people]:
        raise SplitError(f"{len(order) + len(own_test)} people are too few: nobody is left for {', '.join(empty)}")
    return split


def _count(share: float, people: int) -> int:
    return max(1, round(share * people))

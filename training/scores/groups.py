"""Scores by sex, age and whatever else a corpus says of its people."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from training.scores.statistics import Interval, bootstrap_mean

UNKNOWN: Final = "unknown"
ALWAYS: Final = ("sex", "age")
"""Named in every report, so that a corpus that does not say so is seen."""


class GroupScore(NamedTuple):
    """The mean over a group's people of their headline score."""

    score: float
    interval: Interval | None
    """A 95 % bootstrap over people; None for one person."""
    people: int
    clips: int


class GroupReport(NamedTuple):
    """One attribute's groups."""

    groups: dict[str, GroupScore]
    """By value, sorted; `unknown` where the corpus does not say."""
    worst: str | None
    """The group with the lowest score; None where fewer than two are known."""
    gap: float | None
    """The highest group score less the lowest, of the known groups; None where fewer than two are known."""


def scores_by_group(
    scores: Mapping[str, float],
    clips: Mapping[str, int],
    groups: Mapping[str, Mapping[str, str]],
    *,
    seed: int = 0,
) -> dict[str, GroupReport]:
    """A report for each attribute, from people's scores, clip counts and attributes (`{"sex": "female"}`)."""
    named = {attribute for who in scores for attribute in groups.get(who, {})}
    return {
        attribute: _report(attribute, scores, clips, groups, seed)
        for attribute in (*ALWAYS, *sorted(named - set(ALWAYS)))
    }


def _report(
    attribute: str,
    scores: Mapping[str, float],
    clips: Mapping[str, int],
    groups: Mapping[str, Mapping[str, str]],
    seed: int,
) -> GroupReport:
    members: dict[str, list[str]] = {}
    for who in sorted(scores):
        members.setdefault(groups.get(who, {}).get(attribute, UNKNOWN), []).append(who)
    by_value = {}
    for value, people in sorted(members.items()):
        own = np.array([scores[who] for who in people])
        own_clips = sum(clips[who] for who in people)
        by_value[value] = GroupScore(float(own.mean()), bootstrap_mean(own, seed=seed), len(people), own_clips)
    known = {value: group.score for value, group in by_value.items() if value != UNKNOWN}
    if len(known) < 2:
        return GroupReport(by_value, None, None)
    worst = min(known, key=lambda value: known[value])
    return GroupReport(by_value, worst, max(known.values()) - known[worst])

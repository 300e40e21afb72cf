"""How sure a score is, and whether one method beats another. The unit is the person. Pure functions, seeded.

Axes: P people, N clips or frames, D draws.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.scores.concordance import pooled_ccc

Floats = NDArray[np.float64]

FEWEST_PEOPLE: Final = 10
"""With fewer, a comparison has an interval and no p-value."""
FEWEST_SEEDS: Final = 5
"""People's scores are means over at least so many seeds where they are tested; with fewer, the same."""
EXACT_PEOPLE: Final = 16
"""Up to here all 2^P exchanges are looked at, above it a sample of them."""
BOOTSTRAP_DRAWS: Final = 10_000
EXCHANGE_DRAWS: Final = 100_000
BLOCK: Final = 8192
"""Exchanges looked at together."""


class Interval(NamedTuple):
    low: float
    high: float


class Comparison(NamedTuple):
    """Method a less method b on the same people."""

    difference: float
    interval: Interval | None
    """Of the difference, by a bootstrap over people; None for fewer than two."""
    people: int
    p_value: float | None
    """Two-sided, by exchanging the methods within people; None where nothing is tested, or for under ten people."""
    wilcoxon_p: float | None
    """Two-sided, by signed ranks; None where p_value is, and for a pooled score, which leaves nothing to rank."""


def bootstrap_scores(
    scores: Callable[[Floats], Mapping[str, Floats]],
    people: int,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval | None]:
    """Percentile interval of each score, people drawn with replacement. Efron, Annals of Statistics 7, 1979.

    `scores` gets how often each of `people` was drawn, (D, P), and gives each score of those draws, (D,), NaN where a
    draw leaves it undefined. Where that happens a score has None, and with fewer than two people every score has.
    """
    if people < 2:
        return dict.fromkeys(scores(np.ones((1, people))))
    found = scores(_drawn_people(people, draws, seed))
    return {name: _interval(values, level) if np.isfinite(values).all() else None for name, values in found.items()}


def bootstrap_mean(
    scores: Floats, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Percentile interval of the mean of people's scores (P,); None for fewer than two people."""
    return _bootstrap(lambda counts: counts @ scores / len(scores), len(scores), draws, seed, level)


def bootstrap_ccc(
    moments: Floats, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Percentile interval of the pooled CCC, pooled anew in each draw, from `person_moments` (..., P, 6).

    Leading axes as in `pooled_ccc`; None for fewer than two people.
    """
    return _bootstrap(lambda counts: pooled_ccc(counts, moments), moments.shape[-2], draws, seed, level)


def average_over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each person's mean score over the runs, such as seeds, that tested them; people in sorted order."""
    people = sorted(set().union(*runs))
    return {who: float(np.mean([run[who] for run in runs if who in run])) for who in people}


def compare_scores(a: Mapping[str, float], b: Mapping[str, float], *, tested: bool, seed: int = 0) -> Comparison:
    """The mean difference of people's scores, paired by person; ValueError unless both have the same people.

    `tested`: whether p-values are wanted, where there are enough people for them.
    """
    if a.keys() != b.keys() or not a:
        alone = ", ".join(sorted(a.keys() ^ b.keys())[:3]) or "nobody"
        raise ValueError(f"two methods are compared on the same people, but only one has a score for: {alone}")
    differences = np.array([a[who] - b[who] for who in sorted(a)])
    tested = tested and len(differences) >= FEWEST_PEOPLE
    return Comparison(
        difference=float(differences.mean()),
        interval=bootstrap_mean(differences, seed=seed),
        people=len(differences),
        p_value=sign_flip_p(differences, seed=seed) if tested else None,
        wilcoxon_p=wilcoxon_p(differences) if tested else None,
    )


def compare_ccc(a: Floats, b: Floats, *, tested: bool, seed: int = 0) -> Comparison:
    """The difference of two methods' pooled CCC, from `person_moments` (..., P, 6) of the same frames.

    The interval is a paired bootstrap: each draw of people pools both CCCs anew. The p-value exchanges the methods
    within whole people, which keeps its level however few they are; read off the bootstrap it would not (12 % for 5 %
    with ten people). Leading axes as in `pooled_ccc`, `tested` as in `compare_scores`. ValueError if the frames differ.
    """
    if a.shape != b.shape or not np.allclose(a[..., [0, 2, 4]], b[..., [0, 2, 4]]):
        raise ValueError("two methods are compared on the same frames, but number or truth of theirs differ")
    people = a.shape[-2]
    both = np.concatenate([a, b], axis=-2)  # (..., 2P, 6)

    def difference(of_a: Floats, of_b: Floats) -> Floats:
        return pooled_ccc(np.hstack([of_a, of_b]), both) - pooled_ccc(np.hstack([of_b, of_a]), both)

    ones, none = np.ones((1, people)), np.zeros((1, people))
    observed = float(difference(ones, none)[0])
    return Comparison(
        difference=observed,
        interval=_bootstrap(lambda c: difference(c, np.zeros_like(c)), people, BOOTSTRAP_DRAWS, seed, 0.95),
        people=people,
        p_value=_exchange_p(lambda kept: difference(kept, 1.0 - kept), observed, people, seed)
        if tested and people >= FEWEST_PEOPLE
        else None,
        wilcoxon_p=None,
    )


def sign_flip_p(differences: Floats, *, seed: int = 0) -> float:
    """Two-sided p-value of the mean of people's differences (P,) being 0, each as likely to have either sign.

    Fisher's randomisation test (The Design of Experiments, 1935, §21): exact up to 16 people, else from 100,000 draws.

    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    return _exchange_p(lambda kept: (2.0 * kept - 1.0) @ differences, float(differences.sum()), len(differences), seed)


def wilcoxon_p(differences: Floats) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of (P,), zeros ranked as Pratt does; 1 where all are zero."""
    from scipy.stats import wilcoxon  # not above: it takes a good half second, and most commands test nothing

    # rounded, since a difference of two means is tied with its equals only up to the last bits
    rounded = np.round(differences, 12)
    return float(wilcoxon(rounded, zero_method="pratt").pvalue) if rounded.any() else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values of one family (Holm, Scandinavian Journal of Statistics 6, 1979); None is no test and stays.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted


def _bootstrap(
    of_draws: Callable[[Floats], Floats], people: int, draws: int, seed: int, level: float
) -> Interval | None:
    """`of_draws` gets how often each person was drawn, (D, P), and gives the statistic, (D,)."""
    if people < 2:
        return None
    values = of_draws(_drawn_people(people, draws, seed))
    if not np.isfinite(values).all():
        raise ValueError(f"the statistic is not finite for {(~np.isfinite(values)).sum()} of {draws} draws of people")
    return _interval(values, level)


@lru_cache(maxsize=2)
def _drawn_people(people: int, draws: int, seed: int) -> Floats:
    """How often each person was drawn, (D, P), read-only: all rows of a table take the same draws."""
    counts = np.random.default_rng(seed).multinomial(people, np.full(people, 1.0 / people), size=draws)
    drawn = counts.astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def _interval(values: Floats, level: float) -> Interval:
    low, high = np.quantile(values, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return Interval(float(low), float(high))


def _exchange_p(statistic: Callable[[Floats], Floats], observed: float, people: int, seed: int) -> float:
    """How often the methods, exchanged within people at random, differ by as much as `observed` or more.

    `statistic` gets 1 where a person's two results stay and 0 where they change places, (D, P), and gives (D,).
    """
    as_far = abs(observed) - 1e-9 * abs(observed) - 1e-15  # sums in another order differ in their last bits
    count = sum(int((np.abs(statistic(kept)) >= as_far).sum()) for kept in _exchanges(people, seed))
    if people <= EXACT_PEOPLE:
        return float(count / 2**people)
    return float((1 + count) / (1 + EXCHANGE_DRAWS))


def _exchanges(people: int, seed: int) -> Iterator[Floats]:
    """All 0-1 vectors of `people`, or 100,000 drawn ones, in blocks (at most 8192, P)."""
    rng = np.random.default_rng(seed)
    total = 2**people if people <= EXACT_PEOPLE else EXCHANGE_DRAWS
    for start in range(0, total, BLOCK):
        size = min(BLOCK, total - start)
        if people <= EXACT_PEOPLE:
            kept = np.arange(start, start + size)[:, None] >> np.arange(people) & 1
        else:
            kept = rng.integers(0, 2, (size, people), dtype=np.int8)
        yield kept.astype(np.float64)

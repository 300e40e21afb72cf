"""What a graph's first runs took, and which batch of it is worth forming."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

LEAST_RUNS: Final = 2
ENOUGH_S: Final = 0.25
CERTAIN_S: Final = 0.02
MOST_RUNS: Final = 50
CPU_RUNS: Final = 5
GPU_RUNS: Final = 2
"""Runs of each size as a rule."""
WORTH_A_TRY: Final = 1.15
"""On a CPU larger batches are tried as long as a doubling makes items faster by this factor: what busy cores measure is
not exact, and a batch that is larger than useful takes memory and leaves cores idle."""
NEARLY_BEST: Final = 0.95
"""A batch is useful if this share of the best windows a second is not had with a smaller one."""
SIZES_KEPT: Final = 256


class BatchTime(NamedTuple):
    """The best of a few runs with so many items."""

    items: int
    seconds: float


@dataclass(frozen=True)
class WarmUp:
    """Measured before a graph serves. Without times a batch holds one item, and nothing is known of its length."""

    slowest_batch_s: float = 0.0
    """The first run of a size counts too."""
    times: tuple[BatchTime, ...] = ()
    """By size, the smallest first."""
    padded: bool = False
    """Whether the graph runs in these sizes only, other batches being padded to the next one."""

    @cached_property
    def useful_batch(self) -> int:
        """The smallest size that is nearly as fast an item as the fastest: a larger one only makes others wait.

        >>> WarmUp(0.3, (BatchTime(1, 0.10), BatchTime(2, 0.12), BatchTime(4, 0.235))).useful_batch
        2
        """
        needed = NEARLY_BEST * max((per_second(time) for time in self.times), default=0.0)
        return next((time.items for time in self.times if per_second(time) >= needed), 1)

    @cached_property
    def seconds_per_item(self) -> float:
        """In the largest useful batch; 0 where nothing was measured."""
        return self.batch_s(self.useful_batch) / self.useful_batch

    @cached_property
    def batch_s(self) -> Callable[[int], float]:
        """How long a batch of so many items takes; asked several times a request, and worked out once for each size."""
        return lru_cache(SIZES_KEPT)(partial(length_s, self.times, self.padded))

    def best_batch(self, waiting: int, limit_s: float) -> int:
        """How many of `waiting` items (at least one) to run together, if the batch should end within `limit_s`.

        As many as are useful; where batches are padded, fewer if the next bucket would hold too much padding. One
        item always goes, however long it takes.

        >>> on_gpu = WarmUp(1.0, (BatchTime(1, 1.0), BatchTime(2, 1.2), BatchTime(4, 2.4)), padded=True)
        >>> [on_gpu.best_batch(waiting, limit_s=9.0) for waiting in (1, 2, 3, 4)]
        [1, 2, 2, 2]
        """
        most = min(waiting, self.useful_batch)
        if most == 1 or not self.times:
            return 1
        if not self.padded:
            return next((size for size in range(most, 1, -1) if self.batch_s(size) <= limit_s), 1)
        sizes = [time.items for time in self.times if time.items < most]
        fitting = [size for size in [*sizes, most] if self.batch_s(size) <= limit_s] or [1]
        return max(fitting, key=lambda size: per_second(BatchTime(size, self.batch_s(size))))


def length_s(times: Sequence[BatchTime], padded: bool, items: int) -> float:
    """How long a batch takes: on a line between the sizes that were measured, or as the next one if padded.

    >>> length_s([BatchTime(1, 2.0), BatchTime(4, 5.0)], False, 3)
    4.0
    """
    before = BatchTime(0, 0.0)
    for time in times:
        if items <= time.items:
            if padded:
                return time.seconds
            slope = (time.seconds - before.seconds) / (time.items - before.items)
            return before.seconds + slope * (items - before.items)
        before = time
    return before.seconds * items / before.items if before.items else 0.0


def one_by_one(timed: Callable[[int], float], sizes: Sequence[int]) -> WarmUp:
    """All sizes on a GPU, whose speed is steady; `timed` runs a batch of a size and tells the seconds.

    The first run of a size allocates, and searches; the others show the speed.
    """
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for size, runs_s in taken.items():
        while not are_enough(runs_s, GPU_RUNS):
            runs_s.append(timed(size))
    times = tuple(BatchTime(size, min(runs_s)) for size, runs_s in taken.items())
    return WarmUp(max(map(max, taken.values())), times, padded=True)


def in_turns(timed: Callable[[int], float], sizes: Sequence[int]) -> WarmUp:
    """As many sizes on a CPU as gain anything, each in turns with the one before it.

    What a core gives changes within a second by more than a larger batch gains: only neighbours in time are compared.

    >>> in_turns({1: 1.0, 2: 1.2, 4: 2.4}.__getitem__, (1, 2, 4, 8)).times
    (BatchTime(items=1, seconds=1.0), BatchTime(items=2, seconds=1.2), BatchTime(items=4, seconds=2.4))
    """
    slowest_s = timed(sizes[0])  # it allocates, and shows no speed
    times: list[BatchTime] = []
    for smaller, larger in pairwise(sizes):
        slowest_s = max(slowest_s, timed(larger))
        turns: list[tuple[float, float]] = []
        while not are_enough([larger_s for _, larger_s in turns], CPU_RUNS):
            turns.append((timed(smaller), timed(larger)))
        slowest_s = max(slowest_s, *map(max, turns))
        times = times or [BatchTime(smaller, min(smaller_s for smaller_s, _ in turns))]
        longer = median(larger_s / smaller_s for smaller_s, larger_s in turns)
        times.append(BatchTime(larger, longer * times[-1].seconds))
        if per_second(times[-1]) < WORTH_A_TRY * per_second(times[-2]):
            break
    return WarmUp(slowest_s, tuple(times))


def are_enough(taken_s: Sequence[float], usual: int) -> bool:
    """Whether the runs of one size need no other: a slow graph is told by two, one that is over at once by many.

    >>> are_enough([9.0], 5), are_enough([0.3, 0.2], 5), are_enough([0.3, 0.01], 5), are_enough([0.1, 0.1], 2)
    (False, True, False, True)
    >>> are_enough([1e-4] * 5, 5), are_enough([1e-4] * 50, 5)
    (False, True)
    """
    if len(taken_s) < usual:
        return len(taken_s) >= LEAST_RUNS and LEAST_RUNS * min(taken_s) >= ENOUGH_S
    return len(taken_s) >= MOST_RUNS or sum(taken_s) >= CERTAIN_S


def per_second(time: BatchTime) -> float:
    """Items a second."""
    return time.items / max(time.seconds, 1e-9)

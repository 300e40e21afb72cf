"""What a graph's first runs took, and which batch of it is worth forming."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

LEAST_RUNS: Final = 2
ENOUGH_S: Final = 0.25
CERTAIN_S: Final = 0.02
MOST_RUNS: Final = 50
NEARLY_BEST: Final = 0.95
"""A batch is useful if this share of the best windows a second is not had with a smaller one."""


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

    def batch_s(self, items: int) -> float:
        """How long a batch takes: on a line between the sizes that were measured, or as the next one if padded.

        >>> WarmUp(6.0, (BatchTime(1, 2.0), BatchTime(4, 5.0))).batch_s(3)
        4.0
        """
        before = BatchTime(0, 0.0)
        for time in self.times:
            if items <= time.items:
                if self.padded:
                    return time.seconds
                slope = (time.seconds - before.seconds) / (time.items - before.items)
                return before.seconds + slope * (items - before.items)
            before = time
        return before.seconds * items / before.items if before.items else 0.0

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

"""How long the batcher's work will take: what devices have in hand, what waits, and what would come."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from service.batcher.batch import Batch, Request
from service.batcher.drain_rate import DrainRate
from service.batcher.turns import Turns


@dataclass(frozen=True)
class Forecast:
    """Looks at the batcher's own queue and batches, and changes nothing of them."""

    threads: Counter[int]
    """That compute, of each device."""
    lines: Sequence[Turns[Request]]
    in_hand: Sequence[Batch]
    rate: DrainRate
    clock: Callable[[], float]

    @cached_property
    def lanes(self) -> int:
        """Threads of all devices."""
        return self.threads.total()

    @property
    def is_free(self) -> bool:
        """Whether nobody waits, and a lane has nothing to do."""
        return not any(self.lines) and len(self.in_hand) < self.lanes

    def wait_s(self, runner_key: str, n_items: int) -> float:
        """How long `n_items` new items would take from now on, if nobody else came.

        Since requests take turns, each of the others has about `n_items` of its own computed meanwhile. Where nobody
        waits and a lane is free, no slowness is believed that warm-up did not see: only a try can correct it.
        """
        if self.is_free:
            together = 1 if self.in_hand else max(self.threads.values())
            return self.rate.at_best_s(runner_key, n_items, lanes=self.lanes, together=together)
        wait_s = self.rest_s()
        for key in {runner_key, *self.graphs()}:
            own, size, waiting = n_items if key == runner_key else 0, self.rate.useful_batch(key), self.waiting(key)
            share = own + min(waiting, self.asking(key) * n_items)
            count = min(math.ceil(share / size) * size, waiting + own)
            wait_s += count * self.rate.seconds_per_item(key)
        # its last batch has one lane, and all its time, while the others go on
        last = min(n_items + self.waiting(runner_key), self.rate.useful_batch(runner_key))
        return (wait_s + (self.lanes - 1) * self.rate.batch_s(runner_key, last)) / self.lanes

    def drain_s(self) -> float:
        """How long all that is here will take."""
        left_s = self.rest_s()
        for key in self.graphs():
            left_s += self.waiting(key) * self.rate.seconds_per_item(key)
        return left_s / self.lanes

    def graphs(self) -> set[str]:
        """Keys of those that somebody waits for."""
        return {key for line in self.lines for key in line.asking}

    def waiting(self, key: str) -> int:
        """How many items wait for a graph."""
        return sum(line.waiting[key] for line in self.lines)

    def asking(self, key: str) -> int:
        """How many requests wait for a graph."""
        return sum(line.asking[key] for line in self.lines)

    def rest_s(self) -> float:
        """What is left of the batches in hand."""
        rest_s, now_s = 0.0, self.clock()
        for batch in self.in_hand:
            rest_s += max(0.0, batch.expected_s - max(0.0, now_s - batch.began_s))
        return rest_s

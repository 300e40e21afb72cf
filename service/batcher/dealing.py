"""Which device gets the next batch, how large it may be, and who cannot wait for the turn, or not at all any more."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.batcher.batch import Request
from service.batcher.deadlines import Deadlines
from service.batcher.forecast import Forecast
from service.batcher.turns import Turns
from service.runtime.device import Runner

AHEAD_S: Final = 0.02
"""A batch that takes longer is not handed out ahead: it would bind the device, and gain nothing to speak of."""


@dataclass(frozen=True)
class Dealing:
    """Looks at the batcher's own queue and batches, and changes nothing of them."""

    forecast: Forecast
    turns: Turns[Request]
    """Those who wait for a device."""
    deadlines: Deadlines[Request]
    ahead: int
    """Full batches that may wait at a device beside those that compute."""
    latency_objective_s: float

    def device(self) -> int | None:
        """The one that has least to do, if it may have another batch.

        One that computes already gets only a full batch, since others gain nothing.
        """
        given = Counter(batch.device for batch in self.forecast.in_hand)
        device = min(self.forecast.threads, key=given.__getitem__)
        return device if not given[device] or self.takes_more(device, given[device]) else None

    def takes_more(self, device: int, given: int) -> bool:
        """Whether a device that has `given` batches may have one more of those whose turn it is."""
        threads = self.forecast.threads[device]
        if given >= threads + self.ahead:
            return False
        key, useful = self.turns.first().runner.key, self.turns.first().runner.warm_up.useful_batch
        if self.turns.waiting[key] < useful:
            return False
        return given < threads or self.forecast.rate.batch_s(key, useful) <= AHEAD_S

    def size(self, now_s: float, runner: Runner) -> int:
        """How many items of this graph to run together."""
        waiting = self.turns.waiting[runner.key]
        if waiting == 1 or runner.warm_up.useful_batch == 1:
            return 1
        limit_s = min(self.latency_objective_s, self.deadlines.earliest_s() - now_s)
        return runner.warm_up.best_batch(waiting, limit_s / self.forecast.rate.slowdown(runner.key))

    def in_danger(self, now_s: float) -> list[Request]:
        """Those who would come too late if they waited for all that is here."""
        if self.turns.alone():
            return []
        end_s = now_s + self.forecast.drain_s()
        return self.deadlines.until(end_s) if self.deadlines.earliest_s() < end_s else []

    def too_late(self, now_s: float) -> Iterator[Request]:
        """Those whose time is over; where others wait for the same graph, also those who have too little left.

        Else a queue as long as its requests' time would be computed for nothing, each of them a little too late. One is
        always left to be tried, or a graph that was slow once would never be seen to be fast again: so take each one
        out of the queue before you ask for the next.
        """
        asking = self.forecast.asking
        needed_s = {key: self.forecast.rate.batch_s(key, 1) for key in self.forecast.graphs() if asking(key) > 1}
        for request in self.deadlines.until(now_s + max(needed_s.values(), default=0.0)):
            key = request.runner.key
            least_s = needed_s.get(key, 0.0) if request.waiting and asking(key) > 1 else 0.0
            if request.deadline_s <= now_s + least_s:
                yield request

"""What the event loop computes itself, since it is over before a thread would have begun."""

from typing import Final

from service.batcher.batch import Batch, Request
from service.batcher.drain_rate import DrainRate
from service.runtime.device import Row, Runner

QUICK_S: Final = 3e-4
"""Tensors that take less go to no thread: to wake one, and to share the interpreter with it, would take longer."""
LONE_S: Final = 0.02
"""Nor do those of a request beside which nothing else goes on: only who comes meanwhile waits for the loop."""


class Quick:
    """Which graphs are quick, by what they take of their thread's processor.

    By the clock none would stay so: one delay of the machine would send a graph to the threads, whose batches come back
    when the busy event loop has time for them.
    """

    def __init__(self) -> None:
        self.work = DrainRate()

    def expect(self, runner: Runner) -> None:
        """Take over what warm-up measured."""
        self.work.expect(runner.key, runner.warm_up)

    def observe(self, batch: Batch) -> None:
        """Take a batch that was computed into account."""
        self.work.observe(batch.runner.key, len(batch.members), batch.processor_s)

    def takes(self, request: Request) -> bool:
        """Whether all of a request is quick. To build windows of a recording never is, nor to wait for a GPU."""
        return self.takes_within(QUICK_S, request)

    def takes_alone(self, request: Request) -> bool:
        """Whether the event loop may compute it while it has nothing else to do."""
        return request.loop_is_free and self.takes_within(LONE_S, request)

    def takes_within(self, limit_s: float, request: Request) -> bool:
        return isinstance(request.items[0], Row) and self.are_within(limit_s, request.runner.key, len(request.items))

    def would_take(self, key: str, n_items: int) -> bool:
        """Whether so many tensors for a graph would be quick."""
        return self.are_within(QUICK_S, key, n_items)

    def seconds(self, key: str, n_items: int) -> float:
        """What so many tensors take of the event loop's time, of a graph that was measured."""
        return self.slowness(key) * self.work.measured[key].batch_s(n_items)

    def are_within(self, limit_s: float, key: str, n_items: int) -> bool:
        warm_up = self.work.measured.get(key)
        return warm_up is not None and not warm_up.padded and 0.0 < self.seconds(key, n_items) <= limit_s

    def at_once(self, runner: Runner) -> int:
        """How many items are quick together, at least one."""
        return max(1, int(QUICK_S / (self.slowness(runner.key) * runner.warm_up.seconds_per_item)))

    def slowness(self, key: str) -> float:
        """Times what warm-up measured. No graph is believed to have become faster: that was the best of many runs, by a
        better clock, and with one thread, where a run that is alone may have others beside its own."""
        return max(1.0, self.work.slowdown(key))

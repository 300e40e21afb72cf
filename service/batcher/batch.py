"""One request's items in the batcher, the batch that some of them go through, and what the caller is told."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from service.batcher.turns import Member
from service.runtime.cancellation import Cancellation
from service.runtime.device import Array, BuildItem, Result, Runner

Outcome = Literal["ok", "failed", "cancelled"]
LOOP: Final = -1
"""Stands for a device where the event loop computes a batch itself."""


class BatchItemFailed(Exception):
    """One item could not be built or computed, alone and not for its company; `__cause__` says why.

    `place` is where it computed, for the log.
    """

    def __init__(self, item: int, items: int, place: str) -> None:
        super().__init__(f"item {item} of {items} could not be computed")
        self.place = place


class DeadlineExceeded(Exception):
    """The request's time was over, or too short, before all its items were computed."""


class BatchInterrupted(Exception):
    """The batcher closed, or its loop died with the item in hand; the same request may be tried again."""


class BatchAnswer(NamedTuple):
    """One request's results. `queue_s` and `inference_s` add up to the time it spent here."""

    output: Array
    """(items, ...), in the order of the items; a row holds NaN where the graph gave NaN."""
    queue_s: float
    inference_s: float
    """While at least one of its items was on a device."""
    largest_batch: int


class BatchReport(NamedTuple):
    """One finished batch, for metrics."""

    runner_key: str
    size: int
    busy_s: float
    """Its part of the time that all lanes have together."""
    outcome: Outcome
    """`failed` if any member did; `cancelled` if the run was ended because all members had gone."""
    place: str
    """Where it was computed, for the log."""
    errors: Sequence[BaseException]
    """Of the members that failed."""

    @property
    def failed(self) -> int:
        """Members that failed, also alone."""
        return len(self.errors)


class Request:
    """The items of one `run`, and what has become of them."""

    __slots__ = (
        "__weakref__",
        "answer",
        "arrived_s",
        "computed",
        "computing",
        "deadline_s",
        "inference_s",
        "items",
        "largest_batch",
        "loop_is_free",
        "output",
        "runner",
        "since_s",
        "taken",
    )

    def __init__(
        self,
        runner: Runner,
        items: Sequence[BuildItem],
        deadline_s: float,
        arrived_s: float,
        answer: asyncio.Future[BatchAnswer],
        *,
        loop_is_free: bool = False,
    ) -> None:
        self.runner, self.items, self.deadline_s, self.arrived_s, self.answer = (
            runner,
            items,
            deadline_s,
            arrived_s,
            answer,
        )
        self.loop_is_free = loop_is_free
        """Whether nobody else needed the event loop when it came."""
        self.taken = self.computed = 0
        self.computing = 0
        """Batches on a device that hold items of it."""
        self.since_s = math.inf
        """When the first of these began, as far as that is known; infinity while there are none."""
        self.inference_s = 0.0
        self.largest_batch = 0
        self.output: Array | None = None

    @property
    def waiting(self) -> int:
        """How many of its items were not handed out yet."""
        return len(self.items) - self.taken

    def take(self) -> tuple[int, BuildItem]:
        """Hand out the next item, with its place in the answer."""
        place = self.taken
        self.taken += 1
        return place, self.items[place]

    def done(self) -> bool:
        """Whether it has its answer, or nobody waits for one."""
        return self.answer.done()

    def begin(self) -> None:
        """A batch with items of it goes to a device."""
        self.computing += 1

    def end(self, began_s: float, now_s: float, size: int) -> None:
        """A batch with items of it came back, which were run by `size` at most; the device began it at `began_s`."""
        self.computing -= 1
        self.since_s = min(self.since_s, began_s)
        if not self.computing:
            self.inference_s += now_s - self.since_s
            self.since_s = math.inf
        self.largest_batch = max(self.largest_batch, size)

    def keep(self, place: int, row: Array) -> None:
        """Store one result."""
        if self.output is None:
            self.output = (
                row[np.newaxis] if len(self.items) == 1 else np.empty((len(self.items), *row.shape), row.dtype)
            )
        if len(self.items) > 1:
            self.output[place] = row
        self.computed += 1

    def complete(self, now_s: float) -> None:
        """Answer if all is there. Call it after `end`."""
        if self.computed == len(self.items) and self.output is not None and not self.answer.done():
            queue_s = max(0.0, now_s - self.arrived_s - self.inference_s)
            self.answer.set_result(BatchAnswer(self.output, queue_s, self.inference_s, self.largest_batch))

    def fail(self, error: Exception) -> None:
        """The first failure is the answer."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def overdue(self) -> DeadlineExceeded:
        """That its time is over, with what was done till then."""
        return DeadlineExceeded(f"there was no time left, with {self.computed} of {len(self.items)} items computed")


class Batch:
    """Items of several requests, for one graph, on one device."""

    __slots__ = (
        "alone",
        "began_s",
        "builds",
        "cancel",
        "clock",
        "device",
        "expected_s",
        "given_s",
        "members",
        "out_of_turn",
        "processor_s",
        "requests",
        "runner",
        "thread_clock",
    )

    def __init__(
        self,
        device: int,
        members: Sequence[Member[Request]],
        clock: Callable[[], float],
        thread_clock: Callable[[], float],
        *,
        alone: bool,
    ) -> None:
        """`thread_clock` counts only while the thread that asks it has a processor."""
        self.device, self.members, self.alone = device, members, alone
        self.clock, self.thread_clock = clock, thread_clock
        self.given_s = clock()
        """When it was handed to the device."""
        self.began_s = math.inf
        """When a thread took it; infinity while it waits for one."""
        self.processor_s = 0.0
        """What its thread's processor took for it, whoever else had that processor meanwhile."""
        self.runner = members[0].request.runner
        self.builds = [member.build for member in members]
        self.requests = {member.request for member in members}
        self.cancel = Cancellation()
        self.expected_s = 0.0
        """How long it should take; set by whoever estimates."""
        self.out_of_turn = False
        """Whether it is for this device and no other, and waited for no place there."""
        for request in self.requests:
            request.begin()

    def begin(self) -> None:
        """A thread has taken it. Called on that thread, as `end` is."""
        self.began_s = self.clock()
        self.processor_s -= self.thread_clock()

    def end(self) -> None:
        """The thread is done with it."""
        self.processor_s += self.thread_clock()

    @property
    def place(self) -> str:
        """Where it is computed, for the log."""
        return "the event loop" if self.device == LOOP else f"device {self.device}"

    def report(self, errors: Sequence[BaseException], busy_s: float) -> BatchReport:
        """What is told of it once it is over, with these errors of `deliver`."""
        outcome: Outcome = "cancelled" if self.cancel.asked else "failed" if errors else "ok"
        return BatchReport(self.runner.key, len(self.members), busy_s, outcome, self.place, errors)

    def deliver(self, results: Sequence[Result], now_s: float) -> list[BaseException]:
        """Give each member its row or its error; returns the errors of those that failed, also alone."""
        errors: list[BaseException] = []
        together = min(len(self.members), self.runner.warm_up.useful_batch)
        for request in self.requests:
            request.end(self.began_s, now_s, together)
        for (request, place, _), result in zip(self.members, results, strict=True):
            if isinstance(result, BaseException):
                errors.append(result)
                error = BatchItemFailed(place, len(request.items), self.place)
                error.__cause__ = result
                request.fail(error)
            else:
                request.keep(place, result)
        for request in self.requests:
            request.complete(now_s)
        return errors

    def abandoned(self) -> bool:
        """Whether nobody waits for any of it."""
        return all(request.done() for request in self.requests)

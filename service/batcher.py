"""The dynamic batcher: windows of many requests share the device's runs, and a failure stays with its request.

A batch is whatever waits when the device becomes free; nothing waits for company. Everything but the runs themselves
happens on the event loop, so the queue needs no lock.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from service.device import Array, BuildItem, Runner, compute
from service.drain_rate import DrainRate
from service.runtime import CPU_MAX_BATCH
from service.turns import Member, Turns

STALL_MIN_S: Final = 2.0
STALL_BATCHES: Final = 5.0
"""The device counts as stalled after this many times the slowest warm-up batch."""
CLOSE_TIMEOUT_S: Final = 20.0
TASK_NAME: Final = "batcher"

log = logging.getLogger(__name__)


class BatchItemFailed(Exception):
    """One item could not be built or computed, alone and not for its company; `__cause__` says why."""


class DeadlineExceeded(Exception):
    """The request's time was over before all its items were computed."""


class BatchInterrupted(Exception):
    """The batcher closed, or its loop died with the item in hand; the same request may be tried again."""


class BatchAnswer(NamedTuple):
    """One request's results. `queue_s` and `inference_s` add up to the time it spent here."""

    output: Array
    """(items, ...), in the order of the items; a row holds NaN where the graph gave NaN."""
    queue_s: float
    inference_s: float
    largest_batch: int


class BatchReport(NamedTuple):
    """One finished batch, for metrics."""

    runner_key: str
    size: int
    seconds: float
    failed: int
    """Members that failed, also alone."""


@dataclass(eq=False)
class Request:
    """The items of one `run`, and what has become of them."""

    runner: Runner
    waiting: deque[tuple[int, BuildItem]]
    items: int
    deadline_s: float
    arrived_s: float
    answer: asyncio.Future[BatchAnswer]
    rows: dict[int, Array] = field(default_factory=dict)
    inference_s: float = 0.0
    largest_batch: int = 0

    def keep(self, place: int, row: Array, now_s: float) -> None:
        """Store one result; the last one completes the answer."""
        self.rows[place] = row
        if len(self.rows) == self.items and not self.answer.done():
            output = np.stack([self.rows[i] for i in range(self.items)])
            queue_s = max(0.0, now_s - self.arrived_s - self.inference_s)
            self.answer.set_result(BatchAnswer(output, queue_s, self.inference_s, self.largest_batch))

    def fail(self, error: Exception) -> None:
        """The first failure is the answer."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def overdue(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the time was over with {len(self.rows)} of {self.items} items computed")


class Batcher:
    """One device, one thread, one dispatcher. Use it from one event loop, between `start` and `close`."""

    def __init__(
        self,
        *,
        max_batch: int = CPU_MAX_BATCH,
        clock: Callable[[], float] = time.monotonic,
        observer: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"a batch holds at least one item; got {max_batch}")
        self.max_batch, self.clock, self.observer = max_batch, clock, observer
        self.rate = DrainRate()
        self.turns = Turns[Request]()
        self.in_hand: list[Member[Request]] = []
        self.busy_since: float | None = None
        """When the batch in hand began; None while the device is idle."""
        self.last_progress_s = clock()
        """When a batch finished last, or work came to an idle device."""
        self.slowest_warm_up_s = 0.0
        self.wake, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()
        self.dispatcher: asyncio.Task[None] | None = None
        self.accepting = False

    async def start(self) -> None:
        """Begin to dispatch."""
        self.device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.accepting = True
        self._launch()

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Take nothing new, finish what is here, and fail what is left after `timeout_s`."""
        self.accepting = False
        if self.dispatcher is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.idle.wait(), timeout_s)
        dispatcher, self.dispatcher = self.dispatcher, None
        dispatcher.cancel()
        await asyncio.wait([dispatcher])
        self._abandon([*(member.request for member in self.in_hand), *self.turns], "the service is stopping")
        self.device.shutdown(wait=False, cancel_futures=True)  # a stuck device must not hold the exit

    def expect(self, runners: Iterable[Runner]) -> None:
        """Take over what warm-up measured, so that the first predictions are not blind."""
        for runner in runners:
            self.rate.expect(runner.key, runner.warm_up.seconds_per_item)
            self.slowest_warm_up_s = max(self.slowest_warm_up_s, runner.warm_up.slowest_batch_s)

    async def run(self, runner: Runner, items: Sequence[BuildItem], *, deadline_s: float) -> BatchAnswer:
        """Compute all items, with others' where they fit; `deadline_s` is a time on the batcher's clock.

        Raises BatchItemFailed where an item fails alone, DeadlineExceeded, and BatchInterrupted. Cancelling takes the
        waiting items out at once; the batch in hand is finished for its other members.
        """
        if not items:
            raise ValueError("run needs at least one item")
        if not self.accepting:
            raise BatchInterrupted("the batcher is not running")
        now_s = self.clock()
        answer: asyncio.Future[BatchAnswer] = asyncio.get_running_loop().create_future()
        request = Request(runner, deque(enumerate(items)), len(items), deadline_s, now_s, answer)
        if deadline_s <= now_s:
            raise request.overdue()
        self._enqueue(request)
        try:
            async with asyncio.timeout(deadline_s - now_s if math.isfinite(deadline_s) else None):
                return await answer
        except TimeoutError:
            raise request.overdue() from None
        finally:
            self._forget(request)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also where a cancellation came between it and its reader

    @property
    def queue_items(self) -> int:
        """Items that wait for the device."""
        return sum(len(request.waiting) for request in self.turns)

    def predicted_wait_s(self, runner_key: str, n_items: int) -> float:
        """How long `n_items` new items would take from now on, if nobody else came.

        Since requests take turns, each of the others has about `n_items` of its own computed meanwhile.
        """
        counts: dict[str, list[int]] = {runner_key: [n_items]}
        for request in self.turns:
            counts.setdefault(request.runner.key, []).append(len(request.waiting))
        wait_s = self._rest_of_batch_s()
        for key, waiting in counts.items():
            batches = math.ceil(sum(min(count, n_items) for count in waiting) / self.max_batch)
            wait_s += min(batches * self.max_batch, sum(waiting)) * self.rate.seconds_per_item(key)
        return wait_s

    def drain_s(self) -> float:
        """How long all that is here will take."""
        waiting_s = (len(request.waiting) * self.rate.seconds_per_item(request.runner.key) for request in self.turns)
        return self._rest_of_batch_s() + sum(waiting_s)

    def stalled(self) -> bool:
        """Whether there is work, and no batch has finished for far longer than any should take."""
        limit_s = max(STALL_MIN_S, STALL_BATCHES * self.slowest_warm_up_s)
        return bool(self.turns or self.in_hand) and self.clock() - self.last_progress_s > limit_s

    def _rest_of_batch_s(self) -> float:
        if self.busy_since is None:
            return 0.0
        whole_s = len(self.in_hand) * self.rate.seconds_per_item(self.in_hand[0].request.runner.key)
        return max(0.0, whole_s - (self.clock() - self.busy_since))

    def _enqueue(self, request: Request) -> None:
        if self.idle.is_set():
            self.last_progress_s = request.arrived_s
            self.idle.clear()
        self.slowest_warm_up_s = max(self.slowest_warm_up_s, request.runner.warm_up.slowest_batch_s)
        self.turns.add(request)
        self.wake.set()

    def _forget(self, request: Request) -> None:
        """Take the waiting items out; what is in hand is computed, and its result dropped."""
        request.waiting.clear()
        self.turns.remove(request)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.turns and not self.in_hand:
            self.idle.set()

    def _launch(self) -> None:
        self.dispatcher = asyncio.create_task(self._dispatch(), name=TASK_NAME)
        self.dispatcher.add_done_callback(self._relaunch)

    def _relaunch(self, dead: asyncio.Task[None]) -> None:
        """The loop never ends by itself: fail what it held, or all that waits if it held nothing, and begin anew."""
        if dead is not self.dispatcher:
            return
        log.error("the batch loop died and was restarted", exc_info=None if dead.cancelled() else dead.exception())
        self._abandon([member.request for member in self.in_hand] or [*self.turns], "the batch loop died")
        self._launch()

    def _abandon(self, requests: Iterable[Request], why: str) -> None:
        self.in_hand, self.busy_since = [], None
        for request in requests:
            request.fail(BatchInterrupted(why))
            self._forget(request)
        if not self.turns:
            self.wake.clear()
        self._note_idle()

    async def _dispatch(self) -> None:
        while True:
            await self.wake.wait()
            self._drop_expired()
            self.in_hand = self.turns.next_batch(self.max_batch)
            if self.in_hand:
                await self._compute(self.in_hand)
            else:
                self.wake.clear()

    def _drop_expired(self) -> None:
        now_s = self.clock()
        for request in [request for request in self.turns if request.deadline_s <= now_s]:
            request.fail(request.overdue())
            self._forget(request)

    async def _compute(self, batch: list[Member[Request]]) -> None:
        """Run one batch; it stays in hand until all of it is told, so that a death here fails nobody else."""
        runner = batch[0].request.runner
        self.busy_since = began_s = self.clock()
        builds = [member.build for member in batch]
        results = await asyncio.get_running_loop().run_in_executor(self.device, compute, runner, builds)
        self.last_progress_s = now_s = self.clock()
        self._deliver(batch, results, now_s, now_s - began_s)
        failed = sum(isinstance(result, BaseException) for result in results)
        if not failed:
            self.rate.observe(runner.key, len(batch), now_s - began_s)
        self.observer(BatchReport(runner.key, len(batch), now_s - began_s, failed))
        self.in_hand, self.busy_since = [], None
        self._note_idle()

    def _deliver(
        self, batch: list[Member[Request]], results: Sequence[Array | BaseException], now_s: float, took_s: float
    ) -> None:
        for request in {id(member.request): member.request for member in batch}.values():
            request.inference_s += took_s
            request.largest_batch = max(request.largest_batch, len(batch))
        for (request, place, _), result in zip(batch, results, strict=True):
            if isinstance(result, BaseException):
                error = BatchItemFailed(f"item {place} of {request.items} could not be computed")
                error.__cause__ = result
                request.fail(error)
                self._forget(request)
            else:
                request.keep(place, result, now_s)

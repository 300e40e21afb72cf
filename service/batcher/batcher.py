"""The dynamic batcher: windows of many requests share the devices' runs, and a failure stays with its request.

A batch is whatever waits when a device becomes free, up to the largest batch that is useful; nothing waits for company.
Everything but the runs themselves happens on the event loop, so the queue needs no lock.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final

from service.batcher.alarm import Alarm
from service.batcher.batch import (
    LOOP,
    Batch,
    BatchAnswer,
    BatchInterrupted,
    BatchItemFailed,
    BatchReport,
    DeadlineExceeded,
    Request,
)
from service.batcher.deadlines import Deadlines
from service.batcher.dealing import Dealing
from service.batcher.drain_rate import DrainRate
from service.batcher.forecast import Forecast
from service.batcher.quick import Quick
from service.batcher.turns import Member, Turns
from service.runtime.device import BuildItem, Lane, Result, Runner, carry_out

__all__ = ["BatchAnswer", "BatchInterrupted", "BatchItemFailed", "BatchReport", "Batcher", "DeadlineExceeded"]

STALL_MIN_S: Final = 2.0
STALL_BATCHES: Final = 5.0
"""A device counts as stalled after this many times the slowest warm-up batch."""
CLOSE_TIMEOUT_S: Final = 20.0

logger = logging.getLogger("pkdot")


class Batcher:
    """One queue in front of all devices. Use it from one event loop, between `start` and `close`.

    `lanes` names the device of each thread that computes: (0,) is one device, (0, 1) two, (0, 0) one that two threads
    feed. While all threads of a device compute, `ahead` full batches may wait at it, if they are short: a thread takes
    the next one without waiting for the event loop. A batch takes no longer than `latency_objective_s`, and no longer
    than the most hurried request has left, as far as its size can see to that.
    """

    def __init__(
        self,
        *,
        lanes: Sequence[int] = (0,),
        ahead: int = 0,
        latency_objective_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        thread_clock: Callable[[], float] = time.thread_time,
        observer: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        if not lanes:
            raise ValueError("a batcher needs at least one lane; name the device of each, for example (0,)")
        self.devices = tuple(lanes)
        self.threads = Counter(self.devices)
        """Of each device."""
        self.room = len(self.devices) + ahead * len(self.threads)
        """Batches that all devices have at most, with those that came out of turn."""
        self.clock, self.thread_clock, self.observer = clock, thread_clock, observer
        self.rate, self.quick = DrainRate(), Quick()
        self.turns, self.quick_turns = Turns[Request](), Turns[Request]()
        """Those who wait for a device, and those whom the event loop is about to serve itself."""
        self.lines = (self.turns, self.quick_turns)
        self.deadlines = Deadlines[Request]()
        self.requests: set[Request] = set()
        """All that are between the beginning and the end of their `run`."""
        self.lanes: list[Lane[Batch]] = []
        self.jobs: dict[int, SimpleQueue[Batch | None]] = {}
        """By device, what its lanes take next."""
        self.in_hand: list[Batch] = []
        """The batches that devices, and the event loop, have, the oldest first."""
        self.last_progress_s = clock()
        """When a batch finished, or work came to idle devices; while other batches run, when the oldest began."""
        self.slowest_warm_up_s = 0.0
        self.forecast = Forecast(self.threads, self.lines, self.in_hand, self.rate, clock)
        self.dealing = Dealing(self.forecast, self.turns, self.deadlines, ahead, latency_objective_s)
        self.accepting = self.stepping = False
        self.alarm = Alarm(clock, self._time_is_over)
        self.drained = asyncio.Event()

    async def start(self) -> None:
        """Begin to compute."""
        self.loop = asyncio.get_running_loop()
        self.jobs = {device: SimpleQueue() for device in self.threads}
        self.lanes = [Lane(device, self.jobs[device], self._finished) for device in self.devices]
        self.accepting = True

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Take nothing new, finish what is here, and fail what is left after `timeout_s`. May be cancelled."""
        self.accepting = False
        try:
            if self.waiting or self.in_hand:
                self.drained.clear()
                async with asyncio.timeout(timeout_s):
                    await self.drained.wait()
        except TimeoutError:
            pass
        finally:
            for batch in self.in_hand:
                batch.cancel.ask()
            self.in_hand.clear()
            self._abandon([*self.requests], "the service is stopping")
            self.alarm.set(math.inf)
            for lane in self.lanes:
                self.jobs[lane.device].put(None)
            for lane in self.lanes:
                lane.join()
            self.lanes = []

    def expect(self, runners: Iterable[Runner]) -> None:
        """Take over what warm-up measured, so that the first predictions are not blind."""
        for runner in runners:
            self.rate.expect(runner.key, runner.warm_up)
            self.quick.expect(runner)
            self.slowest_warm_up_s = max(self.slowest_warm_up_s, runner.warm_up.slowest_batch_s)

    async def run(self, runner: Runner, items: Sequence[BuildItem], *, deadline_s: float) -> BatchAnswer:
        """Compute all items, with others' where they fit; `deadline_s` is a time on the batcher's clock.

        Raises BatchItemFailed where an item fails alone, DeadlineExceeded, and BatchInterrupted. Cancelling takes the
        waiting items out at once; a batch in hand is finished for its other members, and ended where there are none.
        """
        request = self.submit(runner, items, deadline_s=deadline_s)
        try:
            return await request.answer
        finally:
            self.leave(request)

    def submit(
        self,
        runner: Runner,
        items: Sequence[BuildItem],
        *,
        deadline_s: float,
        device: int | None = None,
        loop_is_free: bool = False,
    ) -> Request:
        """The first half of `run`: the caller waits for `answer`, and calls `leave` in every case.

        Where a `device` is named, that one gets the only item, before all that waits. `loop_is_free` says that nobody
        else needs the event loop: it may compute short work itself.
        """
        if not items:
            raise ValueError("run needs at least one item")
        if not self.accepting:
            raise BatchInterrupted("the batcher is not running")
        now_s = self.clock()
        answer = self.loop.create_future()
        request = Request(runner, items, deadline_s, now_s, answer, loop_is_free=loop_is_free)
        if deadline_s <= now_s:
            raise request.overdue()
        self._enter(request, device)
        return request

    def leave(self, request: Request) -> None:
        """Forget a request: its caller has the answer, or has gone. A batch that nobody waits for is ended."""
        self.requests.discard(request)
        self._withdraw(request)
        if not request.answer.cancel() and not request.answer.cancelled():
            request.answer.exception()  # seen, also where a cancellation came between it and its reader
        if request.computing:
            for batch in self.in_hand:
                if request in batch.requests and batch.abandoned():
                    batch.cancel.ask()
        self._note_drained()

    @property
    def queue_items(self) -> int:
        """Items that wait for a device."""
        return sum(line.waiting.total() for line in self.lines)

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for a device, or for the event loop."""
        return any(self.lines)

    def wait_s(self, runner_key: str, n_items: int, *, tensors: bool) -> float:
        """How long new items would take from now on; `tensors` where nothing has to be built of them.

        Those that the event loop computes itself wait for no device, only for others like them.
        """
        if not (tensors and self.quick.would_take(runner_key, n_items)):
            return self.forecast.wait_s(runner_key, n_items)
        return self._quick_s() + self.quick.seconds(runner_key, n_items)

    def queued_s(self, runner_key: str) -> float:
        """How long all will take that is here and that new tensors would wait for, as `wait_s` has it."""
        return self._quick_s() if self.quick.would_take(runner_key, 1) else self.forecast.drain_s()

    def stalled(self) -> bool:
        """Whether there is work, and no batch has finished for far longer than any should take."""
        limit_s = max(STALL_MIN_S, STALL_BATCHES * self.slowest_warm_up_s)
        return bool(self.waiting or self.in_hand) and self.clock() - self.last_progress_s > limit_s

    def _quick_s(self) -> float:
        """How long the event loop will take for all that it computes itself."""
        return sum(self.quick.seconds(key, count) for key, count in self.quick_turns.waiting.items())

    def _enter(self, request: Request, device: int | None) -> None:
        if not self.waiting and not self.in_hand:
            self.last_progress_s = request.arrived_s
        if request.runner.key not in self.rate.per_item_s:
            self.expect([request.runner])
        self.requests.add(request)
        self.deadlines.add(request)
        if request.deadline_s < self.alarm.at_s:
            self.alarm.set(request.deadline_s)
        if device is not None:
            batch = self._take_in_hand(device, [Member(request, *request.take())], alone=False)
            batch.out_of_turn = True
            self.room += 1
            self.jobs[device].put(batch)
            return
        quick = self.quick.takes(request)
        (self.quick_turns if quick else self.turns).add(request)
        if not self.stepping and (quick or len(self.in_hand) < self.room):
            self.stepping = True
            self.loop.call_soon(self._step)  # at the end of this turn of the event loop: who comes in it, comes along

    def _note_drained(self) -> None:
        if not self.accepting and not self.waiting and not self.in_hand:
            self.drained.set()

    def _step(self) -> None:
        """Give the free devices what waits. Whatever fails here fails those who wait, and the next step begins anew."""
        self.stepping = False
        try:
            self._drop_expired()
            self._send_slow_ones_away()
            if self.quick_turns and not any(batch.device == LOOP for batch in self.in_hand):
                self._compute(self.quick_turns.next_batch(self.quick.at_once), alone=False)
            while self.turns and self._begin():
                pass
        except Exception:
            logger.exception("the batch loop died and was restarted")
            running = {request for batch in self.in_hand for request in batch.requests}
            self._abandon(self.requests - running, "the batch loop died")

    def _begin(self) -> bool:
        """Hand out a batch, if a device may have one: whether there was any.

        What is alone, and short, the event loop computes, if it has nothing else to do.
        """
        device = self.dealing.device()
        if device is None:
            return False
        now_s = self.clock()
        members = self.turns.next_batch(partial(self.dealing.size, now_s), self.dealing.in_danger(now_s))
        alone = not self.in_hand and not self.turns
        if alone and all(self.quick.takes_alone(member.request) for member in members):
            self._compute(members, alone=True)
        else:
            self.jobs[device].put(self._take_in_hand(device, members, alone=alone))
        return True

    def _send_slow_ones_away(self) -> None:
        """To the devices, where a graph was seen to be slow since they came."""
        while self.quick_turns and not self.quick.takes(request := self.quick_turns.first()):
            self.quick_turns.remove(request)
            self.turns.add(request)

    def _compute(self, members: Sequence[Member[Request]], *, alone: bool) -> None:
        """One batch in this thread; the event loop has a turn before the next one."""
        batch = self._take_in_hand(LOOP, members, alone=alone)
        self.loop.call_soon(self._finished, batch, carry_out(batch, self.devices[0]))

    def _take_in_hand(self, device: int, members: Sequence[Member[Request]], *, alone: bool) -> Batch:
        batch = Batch(device, members, self.clock, self.thread_clock, alone=alone)
        batch.expected_s = self.rate.batch_s(batch.runner.key, len(batch.members))
        self.in_hand.append(batch)
        return batch

    def _finished(self, batch: Batch, results: Sequence[Result]) -> None:
        """A device has computed a batch, or given up."""
        if batch not in self.in_hand:  # closed meanwhile
            return
        self.in_hand.remove(batch)
        self.room -= batch.out_of_turn
        try:
            now_s = self.clock()
            self.last_progress_s = min([now_s, *(other.given_s for other in self.in_hand)])
            errors = batch.deliver(results, now_s)
            for request in batch.requests:
                if request.done():
                    self._withdraw(request)
        except Exception:
            logger.exception("the batch loop died and was restarted")
            self._abandon(batch.requests, "the batch loop died")
        else:
            self._report(batch, errors, now_s - batch.began_s)
        self._note_drained()
        self._step()

    def _lanes_of(self, batch: Batch) -> int:
        """How many it has kept busy: a run that is alone is divided among all threads of its device."""
        return self.threads[self.devices[0] if batch.device == LOOP else batch.device] if batch.alone else 1

    def _report(self, batch: Batch, errors: Sequence[BaseException], took_s: float) -> None:
        lanes = self._lanes_of(batch)
        report = batch.report(errors, took_s * lanes / len(self.devices))
        if report.outcome == "ok":
            if lanes == 1:  # as every run in a full queue has
                self.rate.observe(batch.runner.key, len(batch.members), took_s)
            self.quick.observe(batch)
        try:
            self.observer(report)
        except Exception:
            logger.exception("a batch could not be counted")

    def _drop_expired(self) -> None:
        for request in self.dealing.too_late(self.clock()):
            request.fail(request.overdue())
            self._withdraw(request)

    def _time_is_over(self) -> None:
        self._step()
        self.alarm.set(self.deadlines.earliest_s())

    def _abandon(self, requests: Iterable[Request], why: str) -> None:
        for request in requests:
            request.fail(BatchInterrupted(why))
            self._withdraw(request)

    def _withdraw(self, request: Request) -> None:
        for line in self.lines:
            line.remove(request)

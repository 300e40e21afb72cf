"""Who may come in: a place, spool bytes and the work to come are weighed at the headers, before the body is read."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from service.errors import Overloaded
from service.uploads.work_rate import Kind, WorkRate

MAX_RETRY_AFTER_S: Final = 60
SMOOTHING: Final = 0.1
"""Weight of the newest request in the mean time that a request takes."""
STEP_BYTES: Final = 1 << 20
"""Bytes that are taken at a time for a body that does not say how long it is."""
LATE: Final = 1.5
"""A whole upload is refused only where the queue is so many times longer than one may be at the headers."""
WORK_STAGES: Final = ("decode", "face", "inference")


class Place:
    """One request's share of the limits; given back as a whole."""

    def __init__(self, admission: "Admission", kind: Kind, step_bytes: int) -> None:
        self.admission = admission
        self.kind = kind
        self.step_bytes = step_bytes
        self.covered_bytes = 0
        self.spool_bytes = 0
        self.coming_s = 0.0
        """Predicted work of what is not in the queue yet."""

    def cover(self, total_bytes: int) -> None:
        """Take the spool bytes that `total_bytes` still needs; Overloaded where all uploads together have too many."""
        self.covered_bytes = max(self.covered_bytes, total_bytes)
        if total_bytes > self.spool_bytes:
            self.spool_bytes += self.admission.take_bytes(total_bytes - self.spool_bytes, self.step_bytes)
            self.coming_s = self.admission.work_rate.predict(self.kind.name, self.covered_bytes)

    def arrived(self) -> float | None:
        """The body is complete, and its work is about to be queued: what it will take, as `Admission.own_s` has it.

        Raises Overloaded where the queue has grown unforeseen.
        """
        self.coming_s = 0.0
        own_s = self.admission.own_s(self.kind, self.covered_bytes)
        self.admission.weigh(self.admission.queued_s(self.kind, own_s), LATE * self.admission.max_queue_s)
        return own_s

    def answered(self, seconds: Mapping[str, float]) -> None:
        """Learn from the seconds that the request's stages took."""
        work_s = sum(seconds.get(stage, 0.0) for stage in WORK_STAGES)
        self.admission.work_rate.learn(self.kind.name, self.covered_bytes, work_s)


class Admission:
    """Bounds on requests at work, on their uploads' bytes, and on the seconds of work that wait or are on their way.

    `queued_s(kind, own_s)` tells for how long a newcomer would wait for those who are here, `own_s` being what it takes
    itself on one core (None: not known). `worked_s()` is as `WorkRate` has it. `jitter()` lies in [0, 1): those who are
    refused together shall not come back together.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_spool_bytes: int,
        max_queue_s: float,
        queued_s: Callable[[Kind, float | None], float],
        worked_s: Callable[[], float],
        jitter: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_requests = max_requests
        self.max_spool_bytes = max_spool_bytes
        self.max_queue_s = max_queue_s
        self.queued_s = queued_s
        self.jitter = jitter
        self.clock = clock
        self.work_rate = WorkRate(worked_s)
        self.places: set[Place] = set()
        self.spool_bytes = 0
        self.mean_request_s = 1.0

    @property
    def at_work(self) -> int:
        """Requests that have a place."""
        return len(self.places)

    def own_s(self, kind: Kind, declared_bytes: int | None) -> float | None:
        """Predicted seconds that a newcomer's own work takes on one core; None where nothing is known of it."""
        return None if declared_bytes is None else self.work_rate.own_s(kind.name, declared_bytes) or None

    def coming_s(self, kind: Kind, declared_bytes: int | None) -> float:
        """Predicted seconds for which the uploads on their way would keep a newcomer waiting.

        Requests take turns: no other delays one by more than its own work. Tensors do not wait for recordings.
        """
        own_s = self.work_rate.predict(kind.name, declared_bytes or 0) or math.inf
        return sum(min(place.coming_s, own_s) for place in self.places if kind.decodes or not place.kind.decodes)

    @contextmanager
    def place(self, kind: Kind, declared_bytes: int | None, *, expected: bool = False) -> Iterator[Place]:
        """A place for a request whose body has `declared_bytes` (None: it does not say). Raises Overloaded.

        `expected` is one that joins a run which has a place already: it gets one beyond `max_requests` too. There are
        no more such runs than places, so those get as many again.
        """
        self.refuse(kind, declared_bytes, expected=expected)
        place = Place(self, kind, STEP_BYTES if declared_bytes is None else 1)
        place.cover(1 if declared_bytes is None else declared_bytes)
        self.places.add(place)
        begin_s = self.clock()
        try:
            yield place
        finally:
            self.places.remove(place)
            self.spool_bytes -= place.spool_bytes
            self.mean_request_s += SMOOTHING * (self.clock() - begin_s - self.mean_request_s)

    def refuse(self, kind: Kind, declared_bytes: int | None, entering: int = 0, *, expected: bool = False) -> None:
        """Raise Overloaded where `place` would, after as many others as are `entering`."""
        if self.at_work + entering >= self.max_requests * (2 if expected else 1):
            why = f"{self.at_work + entering} requests are at work, as many as are allowed"
            raise self.overloaded(why, self.mean_request_s / self.max_requests)
        own_s = self.own_s(kind, declared_bytes)
        self.weigh(self.queued_s(kind, own_s) + self.coming_s(kind, declared_bytes), self.max_queue_s)
        self.refuse_bytes(1 if declared_bytes is None else declared_bytes)

    def refuse_bytes(self, needed: int) -> None:
        free = self.max_spool_bytes - self.spool_bytes
        if needed > free:
            why = f"the uploads at work hold {self.spool_bytes} of {self.max_spool_bytes} bytes"
            raise self.overloaded(why, self.mean_request_s * (needed - free) / max(1, self.spool_bytes))

    def take_bytes(self, needed: int, step: int) -> int:
        """Take as many bytes as are needed, rounded up to steps where there are so many; tells how many."""
        self.refuse_bytes(needed)
        taken = min(self.max_spool_bytes - self.spool_bytes, math.ceil(needed / step) * step)
        self.spool_bytes += taken
        return taken

    def weigh(self, wait_s: float, limit_s: float) -> None:
        if wait_s > limit_s:
            why = f"the work ahead takes {wait_s:.1f} s, more than {limit_s:g} s"
            raise self.overloaded(why, wait_s - self.max_queue_s)

    def overloaded(self, why: str, drained_in_s: float) -> Overloaded:
        """The refusal of one who could come in `drained_in_s`.

        By Little's law the places at work, and the bytes that they hold, are given back at a rate of as many in each
        `mean_request_s`.
        """
        retry_after_s = min(MAX_RETRY_AFTER_S, max(1, math.ceil(drained_in_s * (1.0 + self.jitter()))))
        return Overloaded(f"{why}; try again in {retry_after_s} s", retry_after_s)

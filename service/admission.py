"""Who may come in: places and spool bytes are taken at the headers, before a byte of the body is read."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded

MAX_RETRY_AFTER_S = 60
SMOOTHING = 0.1
"""Weight of the newest request in the mean time that a request takes."""


class Place:
    """One request's share of the limits; given back as a whole."""

    def __init__(self, admission: "Admission") -> None:
        self.admission = admission
        self.spool_bytes = 0

    def cover(self, total_bytes: int) -> None:
        """Take the spool bytes that `total_bytes` still needs; Overloaded where all uploads together have too many."""
        more = total_bytes - self.spool_bytes
        if more > 0:
            self.admission.take_bytes(more)
            self.spool_bytes = total_bytes


class Admission:
    """Bounds on requests at work, on their uploads' bytes, and on the seconds of work that wait for the device.

    `queued_s()` tells these seconds. `jitter()` lies in [0, 1): those who are refused together shall not come back
    together.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_spool_bytes: int,
        max_queue_s: float,
        queued_s: Callable[[], float],
        jitter: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_requests = max_requests
        self.max_spool_bytes = max_spool_bytes
        self.max_queue_s = max_queue_s
        self.queued_s = queued_s
        self.jitter = jitter
        self.clock = clock
        self.at_work = 0
        self.spool_bytes = 0
        self.mean_request_s = 1.0

    @contextmanager
    def place(self, declared_bytes: int) -> Iterator[Place]:
        """A place for a request whose body is said to have `declared_bytes` (0: it does not say). Raises Overloaded."""
        wait_s = self.queued_s()
        if self.at_work >= self.max_requests:
            raise self.overloaded(f"{self.at_work} requests are at work, as many as are allowed")
        if wait_s > self.max_queue_s:
            raise self.overloaded(f"the queue is {wait_s:.1f} s long, more than {self.max_queue_s:g} s", wait_s)
        place = Place(self)
        self.at_work += 1
        begin = self.clock()
        try:
            place.cover(declared_bytes)
            yield place
            self.mean_request_s += SMOOTHING * (self.clock() - begin - self.mean_request_s)
        finally:
            self.at_work -= 1
            self.spool_bytes -= place.spool_bytes

    def take_bytes(self, more: int) -> None:
        if self.spool_bytes + more > self.max_spool_bytes:
            raise self.overloaded(f"the uploads at work hold {self.spool_bytes} of {self.max_spool_bytes} bytes")
        self.spool_bytes += more

    def overloaded(self, why: str, wait_s: float = 0.0) -> Overloaded:
        """By Little's law a place is freed every `mean_request_s / at_work` seconds."""
        drain_s = self.mean_request_s / max(1, self.at_work)
        expected_s = max(wait_s - self.max_queue_s, drain_s) * (1.0 + self.jitter())
        retry_after_s = min(MAX_RETRY_AFTER_S, max(1, math.ceil(expected_s)))
        return Overloaded(f"{why}; try again in {retry_after_s} s", retry_after_s)

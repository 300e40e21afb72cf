"""Requests by when their time is over."""

import math
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar
from weakref import ref

TOLERATED: Final = 64


class Limited(Protocol):
    """A request as this file sees it."""

    @property
    def deadline_s(self) -> float:
        """When its time is over; inf for never."""

    def done(self) -> bool:
        """Whether it has its answer, or needs none any more."""


R = TypeVar("R", bound=Limited)


class Deadlines(Generic[R]):
    """A heap, which keeps no request alive: each holds all that was sent with it, and may be done long before its time.

    The places of those that are done stay in it until they come to its top, or outnumber the others.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, ref[R]]] = []
        self.added = 0
        self.limit = TOLERATED

    def add(self, request: R) -> None:
        """Keep a request, if its time can be over at all."""
        if request.deadline_s == math.inf:
            return
        self.added += 1
        heappush(self.heap, (request.deadline_s, self.added, ref(request)))
        if len(self.heap) > self.limit:
            self.heap = [entry for entry in self.heap if waiting(entry[2]) is not None]
            heapify(self.heap)
            self.limit = max(TOLERATED, 2 * len(self.heap))

    def earliest_s(self) -> float:
        """The deadline of the first request that is not done; inf where there is none."""
        heap = self.heap
        while heap and waiting(heap[0][2]) is None:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def until(self, limit_s: float) -> list[R]:
        """Those that are not done and whose time is over at `limit_s` or before, the earliest first."""
        if self.earliest_s() > limit_s:
            return []
        early = sorted(entry for entry in self.heap if entry[0] <= limit_s)
        return [request for _, _, held in early if (request := waiting(held)) is not None]


def waiting(held: "ref[R]") -> R | None:
    """The request, unless it is done."""
    request = held()
    return None if request is None or request.done() else request
